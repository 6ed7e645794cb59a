"""The Cloudflare REST API as both jobs use it: calls with retries, accounts, queues with HTTP pull, keys of KV.

The only module that retries Cloudflare calls. Every call here is safe to repeat: a create that was done but not
answered is found again by name. Source: the Cloudflare API's own OpenAPI description.
"""

from __future__ import annotations

import json
import random as random_module
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import chain, count, repeat
from typing import Any, Self

import httpx

from flagedge.errors import ApiError, RateLimitedError, SettingsError, UnavailableError
from flagedge.settings import Secret

API_BASE_URL = "https://api.cloudflare.com/client/v4"
TIMEOUT = httpx.Timeout(30.0, connect=5.0, write=60.0)
PER_PAGE = 50  # the most that every list allows
KV_KEYS_PER_PAGE = 1000
KV_KEYS_PER_WRITE = 10_000
KV_WRITE_PAUSE_S = 1.0  # between two writes of a key
SHOWN_MESSAGE_CHARS = 300
RETRIED_STATUSES = frozenset({408, 409, 429})
AUTH_FAILED = 10000
UNREADABLE_REQUEST = 10026
CONCURRENT_CHANGE = 10035
TITLE_TAKEN, CONSUMER_EXISTS, QUEUE_NAME_TAKEN = 10014, 11004, 11009
TAKEN = frozenset({TITLE_TAKEN, CONSUMER_EXISTS, QUEUE_NAME_TAKEN})

# A quote inside a JSON string is escaped, so in a pull's answer this finds the envelope's own key wherever it stands.
SUCCESS = re.compile(rb'"success"\s*:\s*(true|false)')
PERMISSIONS = (
    ("/zones", "Cache Purge: Purge (of the zone)"),
    ("/storage/kv", "Workers KV Storage: Edit"),
    ("/queues", "Queues: Edit"),
    ("/workers", "Workers Scripts: Edit"),
    ("", "Account Settings: Read"),
)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue: bindings take its name, all endpoints its id."""

    queue_id: str
    queue_name: str


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a failing call is tried: `attempts` in all, waits of `base_s` doubling up to `cap_s`, with jitter.

    `budget_s` bounds the sum of the waits, those that the server asks for included: a longer one is not begun.
    `settle_s` is how long a queue's first pull waits for its consumer to take effect.
    """

    attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 8.0
    budget_s: float = 60.0
    settle_s: float = 45.0


class Cloudflare:
    """A client for one account; without an `account_id` it uses the only one that the token sees."""

    def __init__(
        self,
        *,
        api_token: Secret,
        account_id: str = "",
        base_url: str = API_BASE_URL,
        retry: RetryPolicy = RetryPolicy(),
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        token = api_token.reveal()
        # h11 prints a header that it refuses, so nothing it would refuse may get there.
        if not token.isascii() or not token.isprintable() or " " in token:
            raise SettingsError(["CLOUDFLARE_API_TOKEN has characters that no token has (is it quoted, or broken?)"])
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=base_url, headers=headers, timeout=TIMEOUT, transport=transport)
        self._base_url = base_url
        self._account_id = account_id
        self._retry = retry
        self._sleep = sleep
        self._random = random
        self._settled: set[str] = set()

    def __repr__(self) -> str:
        return f"Cloudflare(account_id={self._account_id!r}, base_url={self._base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def find_account_id(self) -> str:
        """The id of the single account that the token sees. Raises SettingsError when there is none, or several."""
        if not self._account_id:
            accounts = list(self.list_all("/accounts", account=False))
            if len(accounts) != 1:
                seen = ", ".join(f"{account['name']} ({account['id']})" for account in accounts) or "none"
                problem = f"the API token must see exactly one account, but sees {seen}: set CLOUDFLARE_ACCOUNT_ID"
                raise SettingsError([problem])
            self._account_id = str(accounts[0]["id"])
        return self._account_id

    def find_queue(self, name: str) -> Queue | None:
        for queue in self.list_all("/queues", name=name):
            if queue["queue_name"] == name:
                return Queue(str(queue["queue_id"]), name)
        return None

    def create_queue(self, name: str) -> Queue:
        """Create the queue, or find the one that has the name already."""
        try:
            created = self.call("POST", "/queues", body={"queue_name": name})
        except ApiError as exc:
            existing = self.find_queue(name) if QUEUE_NAME_TAKEN in exc.codes else None
            if existing is None:
                raise
            return existing
        return Queue(str(created["queue_id"]), name)

    def list_queue_consumers(self, queue_id: str) -> list[dict[str, Any]]:
        return list(self.list_all(f"/queues/{queue_id}/consumers"))

    def create_pull_consumer(
        self,
        queue_id: str,
        *,
        dead_letter_queue: str = "",
        batch_size: int = 100,
        visibility_timeout_ms: int = 60_000,
        max_retries: int = 100,
        retry_delay_s: int = 10,
    ) -> dict[str, Any]:
        """Let the queue be drained over HTTP; the pull consumer that it has already is returned as it is."""
        settings = {
            "batch_size": batch_size,
            "visibility_timeout_ms": visibility_timeout_ms,
            "max_retries": max_retries,
            "retry_delay": retry_delay_s,
        }
        dead_letters = {"dead_letter_queue": dead_letter_queue} if dead_letter_queue else {}
        body = {"type": "http_pull", **dead_letters, "settings": settings}
        try:
            return self.call("POST", f"/queues/{queue_id}/consumers", body=body)
        except ApiError as exc:
            if CONSUMER_EXISTS not in exc.codes:
                raise
            for consumer in self.list_queue_consumers(queue_id):
                if consumer.get("type") == "http_pull":
                    return consumer
            hint = "The queue is consumed by a Worker; a queue has one consumer: detach that one first"
            raise ApiError(exc.message, status=exc.status, codes=exc.codes, hint=hint) from exc

    def delete_queue_consumer(self, queue_id: str, consumer_id: str) -> None:
        """Detach a consumer, or find it gone; messages wait in the queue meanwhile."""
        self.delete(f"/queues/{queue_id}/consumers/{consumer_id}")

    def get_queue_metrics(self, queue_id: str) -> dict[str, Any]:
        """`backlog_count`, `backlog_bytes`, `oldest_message_timestamp_ms` (0: unknown); approximate."""
        return self.call("GET", f"/queues/{queue_id}/metrics")

    def send_message(self, queue_id: str, text: str) -> None:
        """Put a text of at most 127,000 bytes into the queue; repeated after a lost answer, it may be there twice."""
        self.call("POST", f"/queues/{queue_id}/messages", body={"body": text, "content_type": "text"})

    def pull_messages(self, queue_id: str, *, batch_size: int = 100, visibility_timeout_ms: int) -> str:
        """Lease up to `batch_size` messages: the answer's JSON text as it came, envelope included, not parsed.

        Fewer messages, or none, do not mean that the queue is empty. Safe to repeat: leases of a lost answer end. What
        is no UTF-8 is U+FFFD, for one body is not to cost the others.
        """
        endpoint = f"/queues/{queue_id}/messages/pull"
        body = {"batch_size": batch_size, "visibility_timeout_ms": visibility_timeout_ms}
        left_s = 0.0 if queue_id in self._settled else self._retry.settle_s
        for wait_s in chain((1.0, 2.0, 4.0), repeat(8.0)):
            try:
                response = self._send("POST", endpoint, body=body)
                break
            except ApiError as exc:
                if wait_s > left_s or (exc.status != 405 and UNREADABLE_REQUEST not in exc.codes):
                    raise
            self._sleep(wait_s)
            left_s -= wait_s
        self._settled.add(queue_id)
        return str(response.content, "utf-8", "replace")

    def ack_messages(
        self, queue_id: str, *, acks: Sequence[str], retries: Sequence[tuple[str, int]] = ()
    ) -> dict[str, Any]:
        """Drop the messages of the leases `acks`, hand back those of `retries` (lease, delay in seconds).

        Returns {ackCount?, retryCount?, warnings?: {lease: why}}; asks nothing when there is nothing to say.
        """
        if not acks and not retries:
            return {}
        body: dict[str, Any] = {
            "acks": [{"lease_id": lease} for lease in acks],
            "retries": [{"lease_id": lease, "delay_seconds": delay_s} for lease, delay_s in retries],
        }
        return self.call("POST", f"/queues/{queue_id}/messages/ack", body=body)

    def find_kv_namespace(self, title: str) -> str | None:
        for namespace in self.list_all("/storage/kv/namespaces"):
            if namespace["title"] == title:
                return str(namespace["id"])
        return None

    def list_kv_keys(self, namespace_id: str, prefix: str) -> Iterator[str]:
        """The keys that begin so; those of the last minute may be missing."""
        params = {"prefix": prefix, "limit": str(KV_KEYS_PER_PAGE)}
        while True:
            page = _read_envelope(self._send("GET", f"/storage/kv/namespaces/{namespace_id}/keys", params=params))
            yield from (str(key["name"]) for key in page["result"])
            cursor = (page.get("result_info") or {}).get("cursor")
            if not cursor:
                return
            params["cursor"] = cursor

    def delete_kv_keys(self, namespace_id: str, keys: Sequence[str]) -> None:
        """Delete up to KV_KEYS_PER_WRITE keys, there or not. Raises UnavailableError when one is left."""
        left = list(keys)
        for _ in range(self._retry.attempts):
            answer = self.call("POST", f"/storage/kv/namespaces/{namespace_id}/bulk/delete", body=left)
            left = answer.get("unsuccessful_keys") or []
            if not left:
                return
            self._sleep(KV_WRITE_PAUSE_S)
        raise UnavailableError(f"{len(left)} of {len(keys)} KV keys were not deleted", hint="Run this again")

    def find(self, endpoint: str, *, missing: frozenset[int]) -> dict[str, Any] | None:
        """The result of a GET; None when a `missing` code says so, and only then: a failed read is no absence."""
        try:
            return self.call("GET", endpoint)
        except ApiError as exc:
            if missing.intersection(exc.codes) and exc.status < 500:
                return None
            raise

    def delete(self, endpoint: str, **options: Any) -> None:
        """DELETE what was seen there; a 404 says that it is gone, by a try before whose answer was lost."""
        try:
            self.call("DELETE", endpoint, **options)
        except ApiError as exc:
            if exc.status != 404:
                raise

    def list_all(self, endpoint: str, *, account: bool = True, **params: str) -> Iterator[dict[str, Any]]:
        """The items of all pages."""
        seen_count = 0
        for page in count(1):
            query = {"page": str(page), "per_page": str(PER_PAGE), **params}
            envelope = _read_envelope(self._send("GET", endpoint, account=account, params=query))
            items = envelope.get("result") or []
            yield from items
            seen_count += len(items)
            info = envelope.get("result_info") or {}
            more = page < info["total_pages"] if "total_pages" in info else seen_count < info.get("total_count", 0)
            if not items or not more:
                return

    def call(self, method: str, endpoint: str, **options: Any) -> dict[str, Any]:
        """The envelope's `result`, {} when there is none."""
        return _read_envelope(self._send(method, endpoint, **options)).get("result") or {}

    def _send(self, method: str, endpoint: str, *, account: bool = True, body: Any = None, **options: Any) -> Any:
        """The answer, once it is a success; raises an ApiError that cannot pass or outlasts the policy."""
        path = f"/accounts/{self.find_account_id()}{endpoint}" if account else endpoint
        waited_s = 0.0
        for attempt in range(1, self._retry.attempts + 1):
            response = None
            try:
                response = self._http.request(method, path, json=body, **options)
                failure = _judge(method, endpoint, response)
            except httpx.RequestError as exc:
                failure = _no_answer(method, endpoint, self._http.base_url.host, exc)
            if failure is None:
                return response
            wait_s = self._wait_s(attempt, response)
            spent = attempt == self._retry.attempts or waited_s + wait_s > self._retry.budget_s
            if spent or not _is_passing(failure):
                raise failure
            self._sleep(wait_s)
            waited_s += wait_s
        raise AssertionError  # a policy has at least one attempt

    def _wait_s(self, attempt: int, response: httpx.Response | None) -> float:
        backoff_s = min(self._retry.cap_s, self._retry.base_s * 2.0 ** (attempt - 1)) * (0.5 + self._random() / 2)
        if response is None:
            return backoff_s
        asked_s = _read_retry_after(response.headers.get("retry-after", ""))
        if asked_s is not None:
            return asked_s + self._retry.base_s * self._random()
        return max(backoff_s, 1.0) if response.status_code == 429 else backoff_s


def _read_retry_after(text: str) -> float | None:
    """Seconds from either form, never negative; None when there is none that can be read."""
    try:
        return max(0.0, float(int(text)))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _is_passing(failure: ApiError) -> bool:
    """Whether asking again may help."""
    passing = failure.status in RETRIED_STATUSES or CONCURRENT_CHANGE in failure.codes
    return (passing or isinstance(failure, UnavailableError)) and not TAKEN.intersection(failure.codes)


def _judge(method: str, endpoint: str, response: httpx.Response) -> ApiError | None:
    """The failure that an answer is, None when it is a success."""
    status = response.status_code
    if status < 300:
        success = _read_success(response.content, parse=not endpoint.endswith("/pull"))
        if success is None:
            return UnavailableError(_describe(method, endpoint, response, "the answer is no envelope"), status=status)
        if success:
            return None
    codes, said = _read_errors(response)
    message = _describe(method, endpoint, response, said)
    if status == 429:
        return RateLimitedError(message, status=status, codes=codes, hint="Try again in five minutes")
    if status >= 500:
        return UnavailableError(message, status=status, codes=codes, hint="Cloudflare fails: try again later")
    return ApiError(message, status=status, codes=codes, hint=_find_hint(endpoint, response, codes))


def _read_envelope(response: httpx.Response) -> dict[str, Any]:
    return response.json() if response.content else {}


def _read_success(content: bytes, *, parse: bool) -> bool | None:
    """What the envelope says, None when it is none or not whole; unparsed where the content is large and known."""
    if not content:
        return True
    if not parse:
        found = SUCCESS.search(content)
        return found[1] == b"true" if found and content.rstrip().endswith(b"}") else None
    try:
        success = json.loads(content)["success"]
    except (ValueError, KeyError, TypeError):
        return None
    return success is True


def _read_errors(response: httpx.Response) -> tuple[tuple[int, ...], str]:
    """Cloudflare's codes, and what it says in words; never the body itself."""
    try:
        errors = response.json()["errors"]
        codes = tuple(int(error["code"]) for error in errors)
        said = "; ".join(f"{error['code']} {str(error.get('message', ''))[:SHOWN_MESSAGE_CHARS]}" for error in errors)
    except (ValueError, KeyError, TypeError):
        return (), "no reason that can be read"
    return codes, said or "no reason given"


def _describe(method: str, endpoint: str, response: httpx.Response, said: str) -> str:
    ray = response.headers.get("cf-ray")
    return f"{method} {endpoint} failed with HTTP {response.status_code}: {said}" + (f" (cf-ray {ray})" if ray else "")


def _no_answer(method: str, endpoint: str, host: str, exc: httpx.RequestError) -> UnavailableError:
    what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    hint = "Is the network up, and is a proxy needed?"
    return UnavailableError(f"{method} {endpoint} got no answer from {host} ({what})", hint=hint)


def _find_hint(endpoint: str, response: httpx.Response, codes: tuple[int, ...]) -> str:
    if response.headers.get("cf-mitigated") == "challenge":
        return "Cloudflare's firewall challenged the request: call from another address"
    if response.status_code in {401, 403} or AUTH_FAILED in codes:
        permission = next(permission for prefix, permission in PERMISSIONS if endpoint.startswith(prefix))
        return f"The API token needs the permission '{permission}' on this account, and must not have expired"
    return ""
