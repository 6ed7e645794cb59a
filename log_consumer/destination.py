"""Where Confidence takes flag logs: the two destinations of the official Worker's queue consumer, and how they fare.

Other than there, calls time out, redirects are failures, for they would carry the secret elsewhere, and a destination
that fails is left in peace for a while. Of an answer only the status is told: its text might repeat the secret, or
somebody's targeting key.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx
import structlog

from flagedge.errors import SettingsError
from flagedge.settings import Secret
from flagedge.wire.logs_pb2 import IngestFlagLogsRequest
from log_consumer.flag_logs import FlagLogs

EDGE_URL = "https://resolver.confidence.dev/v1/clientFlagLogs:write"
CLOUDFLARE_URL = "https://epx-flags-logs.experimentation-platform.workers.dev/v1/flagLogs:ingest"
NAMES = ("edge", "cloudflare")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
CONNECT_TIMEOUT_S = 5.0
PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
# Answers that have nothing to do with the body: a wrong secret, a wrong URL.
SHUT = frozenset({401, 403, 404, 405, 407})
# So many bodies refused in a row, and it is not they that are wrong.
REFUSED_IN_A_ROW = 20
PAUSE_S, PAUSE_MAX_S = 1.0, 300.0
RETRY_AFTER_MAX_S = 3600.0
SAME_WARNING_S = 30.0
ANSWER_MAX_BYTES = 65_536
# Confidence takes 4 MiB. What is too large below this is not the body's size, and cutting would go on for ever.
CUT_MIN_BYTES = 50_000

log = structlog.stdlib.get_logger()


class Fault(Enum):
    """What is to be done about a failure."""

    TOO_LARGE = auto()  # cut the body
    BODY = auto()  # find the message that is refused
    SHUT = auto()  # leave the destination in peace
    PASSING = auto()  # the same, and hold it against no message


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a destination did not take a body."""

    fault: Fault
    reason: str
    retry_after_s: float = 0.0


class Destination:
    """A place where Confidence takes flag logs. Used by several threads.

    Raises SettingsError for a secret that is no header, and for a URL that would show it around.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        content_type: str,
        encode: Callable[[FlagLogs], bytes],
        client_secret: Secret,
        timeout_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.encode = encode
        self._url = url
        self._content_type = content_type
        self._client_secret = client_secret
        self._check()
        self._client = httpx.Client(timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S), follow_redirects=False)
        self._clock = clock
        # Guards what follows.
        self._lock = threading.Lock()
        self._failure_count = 0
        self._refused_in_a_row = 0
        self._retry_at_s = float("-inf")
        self._warned_at_s = float("-inf")

    def __repr__(self) -> str:
        return f"Destination({self.name!r}, {self._url!r})"

    def close(self) -> None:
        self._client.close()

    @property
    def wait_s(self) -> float:
        """How long it is still left in peace."""
        return max(0.0, self._retry_at_s - self._clock())

    def offer(self, body: bytes) -> Failure | None:
        """Post a body that `encode` made; None when it was taken."""
        failure = self._post(body)
        with self._lock:
            self._note(failure)
        return failure

    def _post(self, body: bytes) -> Failure | None:
        headers = {
            "authorization": f"ClientSecret {self._client_secret.reveal()}",
            "content-type": self._content_type,
        }
        try:
            with self._client.stream("POST", self._url, content=body, headers=headers) as response:
                # What was answered stays so if the rest does not come.
                with suppress(httpx.TransportError):
                    _skip_text(response)
                return _judge(response, len(body))
        except httpx.HTTPError as exc:
            # Not chained, nor quoted: some name the header that they object to.
            return Failure(Fault.PASSING, f"no answer ({type(exc).__name__})")

    def _note(self, failure: Failure | None) -> None:
        if failure is None:
            if self._failure_count:
                log.info("forwarding.recovered", destination=self.name, failure_count=self._failure_count)
            self._failure_count = self._refused_in_a_row = 0
            self._retry_at_s = float("-inf")
        elif failure.fault is Fault.BODY:
            self._refused_in_a_row += 1
            if self._refused_in_a_row >= REFUSED_IN_A_ROW:
                self._pause(failure)
        elif failure.fault is not Fault.TOO_LARGE:
            self._pause(failure)

    def _pause(self, failure: Failure) -> None:
        now_s = self._clock()
        if now_s < self._retry_at_s:
            return  # it was asked before another call failed
        pause_s = max(backoff_s(self._failure_count, PAUSE_S, PAUSE_MAX_S), failure.retry_after_s)
        self._failure_count += 1
        self._retry_at_s = now_s + pause_s
        if now_s - self._warned_at_s >= SAME_WARNING_S:
            self._warned_at_s = now_s
            log.warning(
                "forwarding.failed",
                destination=self.name,
                reason=failure.reason,
                failure_count=self._failure_count,
                pause_ms=round(pause_s * 1000),
            )

    def _check(self) -> None:
        parts = urlsplit(self._url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise SettingsError([f"the URL of {self.name} must begin with https://: it is told the client secret"])
        secret = self._client_secret.reveal()
        if not (secret and secret.isascii() and secret.isprintable()):
            raise SettingsError(["the client secret is empty, or holds what no HTTP header can"])


def open_destinations(
    names: tuple[str, ...],
    *,
    client_secret: Secret,
    account: str = "",
    edge_url: str = "",
    cloudflare_url: str = "",
    timeout_s: float = 15.0,
    clock: Callable[[], float] = time.monotonic,
) -> list[Destination]:
    """Those of NAMES that are named, the primary first; URLs are Confidence's unless there are others.

    `account` is Confidence's too, bare, as the state names it; `cloudflare` needs it. Raises SettingsError.
    """

    if "cloudflare" in names and not account:
        raise SettingsError(["forwarding to cloudflare needs the name of the Confidence account"])

    def encode_ingest(logs: FlagLogs) -> bytes:
        batch = logs.to_request().SerializeToString()
        return IngestFlagLogsRequest(account_id=account, batch=batch).SerializeToString()

    kinds: dict[str, tuple[str, str, Callable[[FlagLogs], bytes]]] = {
        "edge": (edge_url or EDGE_URL, "application/json", FlagLogs.to_json),
        "cloudflare": (cloudflare_url or CLOUDFLARE_URL, "application/protobuf", encode_ingest),
    }
    destinations = []
    for name in names:
        url, content_type, encode = kinds[name]
        destinations.append(
            Destination(
                name,
                url,
                content_type=content_type,
                encode=encode,
                client_secret=client_secret,
                timeout_s=timeout_s,
                clock=clock,
            )
        )
    return destinations


def backoff_s(failure_count: int, first_s: float, most_s: float) -> float:
    """The first wait, doubled for each failure before, up to the most; then up to half more or less."""
    wait_s: float = min(most_s, first_s * 2 ** min(failure_count, 30))
    return wait_s * random.uniform(0.5, 1.5)  # noqa: S311 - it spreads load


def _skip_text(response: httpx.Response) -> None:
    """Read what was answered, so that the connection can be used again, unless it is long."""
    length = 0
    for part in response.iter_raw():
        length += len(part)
        if length > ANSWER_MAX_BYTES:
            return


def _judge(response: httpx.Response, body_bytes: int) -> Failure | None:
    status = response.status_code
    if response.is_success:
        return None
    if response.is_redirect:
        return Failure(Fault.PASSING, f"answered {status}, and redirects are not followed")
    reason = f"answered {status}"
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and body_bytes > CUT_MIN_BYTES:
        return Failure(Fault.TOO_LARGE, reason)
    if not response.is_client_error or status in PASSING:
        return Failure(Fault.PASSING, reason, _read_retry_after(response.headers.get("retry-after", "")))
    return Failure(Fault.SHUT if status in SHUT else Fault.BODY, reason)


def _read_retry_after(text: str) -> float:
    """Seconds from either form, bounded; 0 when there is none that can be read."""
    try:
        wait_s = float(int(text))
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return min(max(0.0, wait_s), RETRY_AFTER_MAX_S)
