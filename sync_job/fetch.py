"""Fetching the state from Confidence's CDN, only when it changed.

The entity tag is kept and sent exactly as the server gave it (quotes and weak mark included): RFC 9110 compares
those. Source: resolver state CDN; the path is the SHA-256 of the client secret.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from flagedge.errors import ApiError, UnavailableError
from flagedge.settings import Secret
from sync_job.settings import SyncSettings

T = TypeVar("T")
CDN_BASE_URL = "https://confidence-resolver-state-cdn.spotifycdn.com"
STATE_MAX_BYTES = 64 * 1024 * 1024
_TIMEOUT = httpx.Timeout(30, connect=5)
_RETRY_WAITS_S = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class FetchedState:
    """A state as it came, and its entity tag as the server sent it (made from the content if it sent none)."""

    data: bytes = field(repr=False)
    etag: str


def find_state_url(settings: SyncSettings) -> str:
    """Where this client's state lies; the encrypted one when a state key is set."""
    if settings.state_url:
        return settings.state_url
    return f"{CDN_BASE_URL}/{state_name(settings.client_secret, encrypted=bool(settings.state_key))}"


def state_name(client_secret: Secret, *, encrypted: bool) -> str:
    digest = hashlib.sha256(client_secret.reveal().encode()).hexdigest()
    return f"{digest}.enc" if encrypted else digest


def fetch_state(
    url: str,
    *,
    known_etag: str = "",
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> FetchedState | None:
    """GET the state unless it still has `known_etag`; None when it has (304).

    A broken connection, a timeout, 429 and 5xx are tried again twice. Raises UnavailableError or ApiError; the
    message names the host alone, as a URL may carry a signature.
    """
    return _get(url, known_etag, _read_state, transport=transport, sleep=sleep)


def has_changed(
    url: str,
    known_etag: str,
    *,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Whether the state has another entity tag than `known_etag`; a new one is not read. Raises as `fetch_state`."""
    return _get(url, known_etag, lambda _, __: True, transport=transport, sleep=sleep) is not None


def _get(
    url: str,
    known_etag: str,
    read: Callable[[httpx.Response, str], T],
    *,
    transport: httpx.BaseTransport | None,
    sleep: Callable[[float], None],
) -> T | None:
    """What `read` makes of the answer and the host's name; None for 304."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    headers = {"if-none-match": known_etag} if known_etag else {}
    with httpx.Client(timeout=_TIMEOUT, transport=transport, follow_redirects=True) as client:
        for wait_s in (*_RETRY_WAITS_S, None):
            try:
                return _get_once(client, url, headers, host, read)
            except UnavailableError:
                if wait_s is None:
                    raise
                sleep(wait_s)
    raise AssertionError


def _get_once(
    client: httpx.Client, url: str, headers: dict[str, str], host: str, read: Callable[[httpx.Response, str], T]
) -> T | None:
    try:
        with client.stream("GET", url, headers=headers) as response:
            if response.status_code == httpx.codes.NOT_MODIFIED:
                return None
            _refuse(response.status_code, host)
            return read(response, host)
    except httpx.RequestError as error:
        raise UnavailableError(
            f"the state could not be fetched from {host} ({type(error).__name__})",
            hint="Check the network and CONFIDENCE_RESOLVER_STATE_URL; the live Worker keeps serving its state",
        ) from error


def _read_state(response: httpx.Response, host: str) -> FetchedState:
    data = _read(response, host)
    return FetchedState(data, response.headers.get("etag") or content_etag(data))


def content_etag(data: bytes) -> str:
    """An entity tag for a state that came without one."""
    return f'"sha256-{hashlib.sha256(data).hexdigest()}"'


def _refuse(status: int, host: str) -> None:
    if status == httpx.codes.OK:
        return
    message = f"{host} answered {status} for the state"
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise UnavailableError(message, status=status, hint="The next run tries again")
    raise ApiError(
        message, status=status, hint="Check CONFIDENCE_CLIENT_SECRET, and whether STATE_ENCRYPTION_KEY is needed"
    )


def _read(response: httpx.Response, host: str) -> bytes:
    parts, length = [], 0
    for part in response.iter_bytes():
        length += len(part)
        if length > STATE_MAX_BYTES:
            raise ApiError(f"the state from {host} is larger than {STATE_MAX_BYTES} bytes", hint="Check the state URL")
        parts.append(part)
    return b"".join(parts)
