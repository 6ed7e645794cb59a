"""Proof before traffic: a version is asked what it serves and how it decides before anybody else can ask it.

It lies beside the live one at 0 % and is reached through the version-override header. Probes are signed by the client
secret; they never log, never apply and write nothing. Where the extra `[gate]` is installed, every answer is held
against the official resolver's.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import structlog

from flagedge.cloudflare import API_BASE_URL
from flagedge.errors import FlagedgeError
from flagedge.settings import Secret
from sync_job.settings import SyncSettings
from sync_job.signature import HEADER, sign

if TYPE_CHECKING:
    from sync_job.decode import DecodedState
    from sync_job.official import OfficialResolver

CONTEXT_COUNT = 200
PROPAGATION_S = 30.0
_REQUESTS_PER_PROBE = 25
_TIMEOUT = httpx.Timeout(20, connect=5)
_SHOWN_CHARS = 300
_log = structlog.get_logger()


class GateError(FlagedgeError):
    """A version does not serve what it should, or cannot be reached; what was live stays live."""


class ReturnedError(GateError):
    """A version had traffic and stopped proving itself; what was live before is live again."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was asked; `compared_count` answers were held against the official resolver's."""

    asked_count: int
    compared_count: int


@dataclass(frozen=True, slots=True)
class Gate:
    """Asks a Worker at `url` for what it should serve; `context_count` contexts for each credential of the state."""

    url: str
    worker_name: str
    secret: Secret
    etag: str
    overrides: str
    """Those that the version is to serve, as its binding has them."""
    context_count: int = CONTEXT_COUNT
    propagation_s: float = PROPAGATION_S
    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep

    def prove(self, decoded: DecodedState, version_id: str = "", *, candidate: str = "") -> Proof:
        """Ask the version, or what everybody gets. Raises GateError for another state and for wrong answers.

        With a `candidate`, a pointer that is not stored yet, it is asked to decide by the plan in KV that it leads to.
        """
        with self._open(version_id) as client:
            self._await_state(client, candidate)
            return self._compare(client, decoded, candidate)

    def check(self, version_id: str = "") -> None:
        """Whether the version, or what everybody gets, serves the state by now. Raises GateError."""
        with self._open(version_id) as client:
            self._await_state(client)

    def _open(self, version_id: str) -> httpx.Client:
        header = {"cloudflare-workers-version-overrides": f'{self.worker_name}="{version_id}"'} if version_id else {}
        return httpx.Client(timeout=_TIMEOUT, headers=header, transport=self.transport)

    def _await_state(self, client: httpx.Client, candidate: str = "") -> None:
        """Deployments take a moment to reach the edge."""
        until_s = time.monotonic() + self.propagation_s
        pause_s = 0.05
        while True:
            try:
                problem = self._judge(self._ask(client, [], candidate))
            except GateError as error:
                problem = error.message
            if not problem:
                return
            if time.monotonic() + pause_s > until_s:
                # The host alone: a URL may carry a password.
                host = urlsplit(self.url).netloc.rpartition("@")[2]
                raise GateError(f"{self.worker_name} at {host} did not prove itself: {problem}", hint=_HINT)
            self.sleep(pause_s)
            pause_s = min(2 * pause_s, 2.0)

    def _judge(self, served: Mapping[str, Any]) -> str:
        """Why a Worker that answers so is not the one; "" when it is."""
        etag = served["state_etag"]
        if etag != self.etag:
            return f"it serves state {etag} instead of {self.etag}"
        # The state alone does not tell a version from the one before it where an override is all that is new.
        return "" if served.get("overrides", "") == self.overrides else "it serves other overrides"

    def _compare(self, client: httpx.Client, decoded: DecodedState, candidate: str) -> Proof:
        # Imported late, with protobuf: a run that finds nothing to do proves nothing.
        from sync_job.contexts import sample_contexts  # noqa: PLC0415

        secrets = _find_secrets(decoded)
        contexts = sample_contexts(decoded.resolver_state, self.context_count, seed=_seed(self.etag))
        batches = list(_batches([(name, context) for name in sorted(secrets) for context in contexts]))
        asked_count = compared_count = 0
        asking = ThreadPoolExecutor(1, thread_name_prefix="probe")
        try:
            # The Worker is asked on while what it answered before is compared.
            asked = asking.map(lambda requests: self._ask(client, requests, candidate)["answers"], batches)
            official = self._load_official(decoded)
            for requests, answers in zip(batches, asked, strict=True):
                if len(answers) != len(requests):
                    raise GateError(f"{self.worker_name} answered {len(answers)} of {len(requests)} probes", hint=_HINT)
                for (credential, context), answer in zip(requests, answers, strict=True):
                    asked_count += 1
                    found = self._read_flags(answer)
                    if official is None:
                        continue
                    expected = official.resolve(secrets[credential], context)
                    _hold_against(expected, found, credential, context)
                    compared_count += 1
        finally:
            asking.shutdown(cancel_futures=True)
        _log.info("version.proved", asked_count=asked_count, compared_count=compared_count)
        return Proof(asked_count, compared_count)

    def _read_flags(self, answer: Any) -> dict[str, dict[str, Any]]:
        from sync_job.official import flags_of_answer  # noqa: PLC0415

        try:
            return flags_of_answer(answer)
        except (KeyError, TypeError) as exc:
            raise GateError(f"{self.worker_name} answered a probe with what is no answer", hint=_HINT) from exc

    def _load_official(self, decoded: DecodedState) -> OfficialResolver | None:
        """None where it is not installed."""
        from sync_job.official import OfficialResolver, is_installed  # noqa: PLC0415

        try:
            return OfficialResolver(decoded) if is_installed() else None
        except RuntimeError as exc:
            raise GateError(
                f"the official resolver cannot load state {self.etag}: {str(exc)[:_SHOWN_CHARS]}",
                hint="What was live stays live. PROBE=off deploys it unproved",
            ) from exc

    def _ask(
        self, client: httpx.Client, requests: Sequence[tuple[str, Mapping[str, Any]]], candidate: str
    ) -> dict[str, Any]:
        asked = [{"credential": credential, "context": context} for credential, context in requests]
        body = json.dumps({"requests": asked} | ({"candidate": candidate} if candidate else {})).encode()
        headers = {HEADER: sign(self.secret, body, at_s=int(time.time()))}
        try:
            response = client.post(f"{self.url}/v1/probe", content=body, headers=headers)
        except httpx.HTTPError as exc:
            raise GateError(f"no answer ({type(exc).__name__})", hint=_HINT) from exc
        if response.status_code != httpx.codes.OK:
            raise GateError(f"the probe was answered with {response.status_code}{_reason(response)}", hint=_HINT)
        try:
            answer: dict[str, Any] = response.json()
        except ValueError as exc:
            raise GateError("the probe's answer is not JSON", hint=_HINT) from exc
        if not isinstance(answer, dict) or "state_etag" not in answer or not isinstance(answer.get("answers"), list):
            raise GateError("the probe's answer is not one of a Worker of flagedge", hint=_HINT)
        return answer


def _reason(response: httpx.Response) -> str:
    """What the Worker says, where it says something."""
    try:
        return f" ({str(response.json()['error']['message'])[:_SHOWN_CHARS]})"
    except (ValueError, KeyError, TypeError):
        return ""


def find_probe_url(settings: SyncSettings, address: str | None) -> str:
    """Where the Worker is reached; `address` is the one below workers.dev, None for none. "" where there is no way."""
    # Another API than Cloudflare's has no workers.dev that leads anywhere.
    return settings.probe_url or ((address or "") if settings.api_base_url == API_BASE_URL else "")


def open_gate(settings: SyncSettings, address: str | None, etag: str, overrides: str = "") -> Gate | None:
    """The gate of these settings; None, with a warning, where probes have no way to the Worker.

    `address` is the Worker's below workers.dev, None for none.
    """
    url = find_probe_url(settings, address)
    if not settings.probe or not url:
        why = "there is no way to the Worker: set PROBE_URL" if settings.probe else "PROBE is off"
        _log.warning("version.unproved", reason=why)
        return None
    return Gate(url, settings.worker.worker_name, settings.client_secret, etag, overrides)


_HINT = (
    "What was live stays live. If probes cannot reach the Worker, set PROBE_URL, or PROBE=off; "
    "where this machine's clock is minutes off, they are answered with 404"
)


def _find_secrets(decoded: DecodedState) -> dict[str, str]:
    """By credential, for those that have one, what stands for it in the state: the official resolver holds the same."""
    from sync_job.decode import NO_SECRET  # noqa: PLC0415

    return {
        each.name: each.client_secret.secret
        for each in decoded.resolver_state.client_credentials
        if each.HasField("client_secret") and each.client_secret.secret != NO_SECRET
    }


def _seed(etag: str) -> int:
    return int.from_bytes(hashlib.sha256(etag.encode()).digest()[:8])


def _batches(items: Sequence[tuple[str, Any]]) -> Iterator[Sequence[tuple[str, Any]]]:
    for start in range(0, len(items), _REQUESTS_PER_PROBE):
        yield items[start : start + _REQUESTS_PER_PROBE]


def _hold_against(
    expected: Mapping[str, Any], found: Mapping[str, Any], credential: str, context: Mapping[str, Any]
) -> None:
    for flag in sorted(expected.keys() | found.keys()):
        if expected.get(flag) != found.get(flag):
            shown = [json.dumps(each.get(flag))[:_SHOWN_CHARS] for each in (expected, found)]
            raise GateError(
                f"the new version is refused: {flag} for {credential} and context {json.dumps(context)[:_SHOWN_CHARS]} "
                f"is {shown[0]} by the official resolver and {shown[1]} by the Worker",
                hint="What was live stays live. This is a bug: please report it with the state's entity tag",
            )
