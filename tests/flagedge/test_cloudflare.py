"""The Cloudflare client against a function in place of the network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from flagedge.cloudflare import Queue, RetryPolicy
from flagedge.errors import ApiError, RateLimitedError, SettingsError, UnavailableError
from flagedge.settings import Secret
from sync_job.workers_api import Module, WorkersApi

TOKEN = "token-that-must-not-show"
ACCOUNT = "a" * 32
Reply = httpx.Response | Exception


def ok(result: Any = None, **info: Any) -> httpx.Response:
    body = {"success": True, "errors": [], "messages": [], "result": result}
    return httpx.Response(200, json=body | ({"result_info": info} if info else {}))


def refused(status: int, code: int, message: str = "no", headers: Mapping[str, str] | None = None) -> httpx.Response:
    body = {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}
    return httpx.Response(status, json=body, headers=headers)


class Network:
    """Answers requests with the replies in turn (the last one for ever) and remembers requests and waits."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    def _reply(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    def connect(self, *, account_id: str = ACCOUNT, retry: RetryPolicy | None = None) -> WorkersApi:
        return WorkersApi(
            api_token=Secret(TOKEN),
            account_id=account_id,
            retry=retry or RetryPolicy(),
            transport=httpx.MockTransport(self._reply),
            sleep=self.waits.append,
            random=lambda: 0.5,
        )

    @property
    def calls(self) -> list[str]:
        prefix = f"/client/v4/accounts/{ACCOUNT}"
        return [f"{request.method} {request.url.path.removeprefix(prefix)}" for request in self.requests]

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]


def test_account_is_found_once() -> None:
    """The only account that the token sees is found with one call, however often it is needed."""
    network = Network(ok([{"id": ACCOUNT, "name": "mine"}]))
    cloudflare = network.connect(account_id="")
    assert [cloudflare.find_account_id() for _ in range(2)] == [ACCOUNT, ACCOUNT]
    assert len(network.requests) == 1
    assert network.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("names", [[], ["one", "two"]])
def test_account_is_not_guessed(names: Sequence[str]) -> None:
    """No account, or several, is a wrong setting that lists them and names the one to set."""
    network = Network(ok([{"id": f"id-{name}", "name": name} for name in names]))
    with pytest.raises(SettingsError, match="CLOUDFLARE_ACCOUNT_ID") as caught:
        network.connect(account_id="").find_account_id()
    assert all(f"{name} (id-{name})" in str(caught.value) for name in names)


ABSENCES: list[tuple[Callable[[WorkersApi], object], int]] = [
    (lambda cloudflare: cloudflare.get_subdomain(), 10007),
    (lambda cloudflare: cloudflare.get_script_settings("s"), 10007),
    (lambda cloudflare: cloudflare.get_deployment("s"), 10090),
]


@pytest.mark.parametrize(("read", "code"), ABSENCES)
def test_absence_is_none(read: Callable[[WorkersApi], object], code: int) -> None:
    """What does not exist is None."""
    assert read(Network(refused(404, code)).connect()) is None


@pytest.mark.parametrize(("read", "_code"), ABSENCES)
@pytest.mark.parametrize("reply", [refused(404, 7003), httpx.Response(404, text="<html>"), refused(403, 10000)])
def test_a_failed_read_is_no_absence(read: Callable[[WorkersApi], object], _code: int, reply: httpx.Response) -> None:
    """Any other failure raises: nothing is taken for absent because it could not be read."""
    with pytest.raises(ApiError):
        read(Network(reply).connect())


def test_reads() -> None:
    """Subdomain and settings come as plain values."""
    assert Network(ok({"subdomain": "acme"})).connect().get_subdomain() == "acme"
    assert Network(ok({"bindings": []})).connect().get_script_settings("s") == {"bindings": []}


def test_upload() -> None:
    """An upload is a form of metadata and modules, each named by its filename, with strict inheritance."""
    network = Network(ok({"id": "s"}))
    module = Module("lib/main.js", b"code \xff", "application/javascript+module")
    assert network.connect().upload_script("s", metadata={"main_module": "lib/main.js"}, modules=[module]) == {
        "id": "s"
    }
    (request,) = network.requests
    assert network.calls == ["PUT /workers/scripts/s"]
    assert dict(request.url.params) == {"excludeScript": "true", "bindings_inherit": "strict"}
    assert (
        b'name="lib/main.js"; filename="lib/main.js"\r\nContent-Type: application/javascript+module' in request.content
    )
    assert b'name="metadata"\r\nContent-Type: application/json\r\n\r\n{"main_module": "lib/main.js"}' in request.content
    assert b"code \xff" in request.content


def test_workers_dev_sends_both_fields() -> None:
    """Enabling workers.dev leaves previews off, in so many words."""
    network = Network(ok({}))
    network.connect().set_workers_dev("s", enabled=True)
    assert network.bodies == [{"enabled": True, "previews_enabled": False}]


def test_lists_are_read_to_the_end() -> None:
    """A namespace on the last page is found; the exact name counts."""
    pages = [ok([{"title": f"t{page}", "id": f"i{page}"}], total_pages=3) for page in (1, 2, 3)]
    network = Network(*pages)
    assert network.connect().find_kv_namespace("t3") == "i3"
    assert [request.url.params["page"] for request in network.requests] == ["1", "2", "3"]
    assert Network(ok([{"title": "t11", "id": "i"}])).connect().find_kv_namespace("t1") is None


def test_create_finds_what_is_there() -> None:
    """A queue or namespace whose name is taken is the one that has it."""
    conflict = Network(refused(409, 11009), ok([]))
    with pytest.raises(ApiError):
        conflict.connect().create_queue("q")
    assert conflict.waits == []
    taken = [refused(400, 11009), ok([{"queue_id": "0", "queue_name": "q2"}, {"queue_id": "1", "queue_name": "q"}])]
    assert Network(*taken).connect().create_queue("q") == Queue("1", "q")
    assert Network(ok({"queue_id": "2"})).connect().create_queue("q") == Queue("2", "q")
    namespace = [refused(400, 10014), ok([{"id": "n", "title": "t"}])]
    assert Network(*namespace).connect().create_kv_namespace("t") == "n"


def test_pull_consumer() -> None:
    """The consumer asks for what a log that must not lose anything needs."""
    network = Network(ok({"consumer_id": "c"}))
    assert network.connect().create_pull_consumer("q", dead_letter_queue="dead")["consumer_id"] == "c"
    settings = {"batch_size": 100, "visibility_timeout_ms": 60_000, "max_retries": 100, "retry_delay": 10}
    assert network.bodies == [{"type": "http_pull", "dead_letter_queue": "dead", "settings": settings}]


def test_pull_consumer_that_exists() -> None:
    """An http_pull consumer that is there is used; one of another kind is an error that says what to do."""
    there = Network(refused(400, 11004), ok([{"type": "http_pull", "consumer_id": "c"}]))
    assert there.connect().create_pull_consumer("q")["consumer_id"] == "c"
    other = Network(refused(400, 11004), ok([{"type": "worker"}]))
    with pytest.raises(ApiError, match="detach"):
        other.connect().create_pull_consumer("q")


def test_pull_is_raw() -> None:
    """A pull is the answer's text untouched, wherever the envelope has its key."""
    text = '{"result":{"messages":[{"body":"\\"success\\":false é"}]},"success" : true,"errors":[]}\n'
    network = Network(httpx.Response(200, text=text))
    assert network.connect().pull_messages("q", batch_size=7, visibility_timeout_ms=1000) == text
    assert network.bodies == [{"batch_size": 7, "visibility_timeout_ms": 1000}]


def test_pull_of_what_is_no_text() -> None:
    """One body that is not UTF-8 costs its own characters, and no other body."""
    content = b'{"success":true,"result":{"messages":[{"body":"\xff\xfe"},{"body":"\xc3\xa9"}]}}'
    network = Network(httpx.Response(200, content=content))
    pulled = json.loads(network.connect().pull_messages("q", visibility_timeout_ms=1))
    assert [each["body"] for each in pulled["result"]["messages"]] == ["\ufffd\ufffd", "é"]


def test_pull_that_says_no() -> None:
    """success:false on a 200 is an error for a pull too, and half an answer is no answer."""
    with pytest.raises(ApiError, match="10250"):
        Network(refused(200, 10250)).connect().pull_messages("q", visibility_timeout_ms=1)
    half = Network(httpx.Response(200, text='{"success":true,"result":{"mess'), ok({"messages": []}))
    assert "messages" in half.connect().pull_messages("q", visibility_timeout_ms=1)
    assert len(half.waits) == 1


def test_pull_waits_for_a_new_consumer() -> None:
    """A queue's first pull is patient with 405 and 10026; once it has worked, they are errors at once."""
    network = Network(refused(405, 0), refused(400, 10026), ok({}), refused(405, 0))
    cloudflare = network.connect()
    cloudflare.pull_messages("q", visibility_timeout_ms=1)
    assert network.waits == [1.0, 2.0]
    with pytest.raises(ApiError):
        cloudflare.pull_messages("q", visibility_timeout_ms=1)
    assert len(network.waits) == 2
    never = Network(refused(405, 0))
    with pytest.raises(ApiError):
        never.connect().pull_messages("q", visibility_timeout_ms=1)
    assert sum(never.waits) <= RetryPolicy().settle_s


def test_ack() -> None:
    """Acks and retries go in one call, and nothing to say is no call."""
    network = Network(ok({"ackCount": 1, "retryCount": 1}))
    cloudflare = network.connect()
    assert cloudflare.ack_messages("q", acks=[]) == {}
    assert network.requests == []
    assert cloudflare.ack_messages("q", acks=["l1"], retries=[("l2", 60)])["ackCount"] == 1
    retries = [{"lease_id": "l2", "delay_seconds": 60}]
    assert network.bodies == [{"acks": [{"lease_id": "l1"}], "retries": retries}]


PASSING: list[Reply] = [
    httpx.Response(408),
    refused(409, 1),
    refused(429, 971),
    httpx.Response(502, text="<html>"),
    refused(400, 10035),
    httpx.Response(200, text="<html>"),
    httpx.Response(200, text='{"success":tr'),
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
    httpx.RemoteProtocolError("cut"),
]


@pytest.mark.parametrize("reply", PASSING, ids=str)
def test_what_passes_is_tried_again(reply: Reply) -> None:
    """Timeouts, broken connections, 408, 409, 429, 5xx and answers that are none are tried again."""
    network = Network(reply, ok({"subdomain": "acme"}))
    assert network.connect().get_subdomain() == "acme"
    assert len(network.waits) == 1


@pytest.mark.parametrize("reply", [refused(400, 10021), refused(403, 10000), refused(200, 1), httpx.Response(301)])
def test_what_does_not_pass_is_not(reply: httpx.Response) -> None:
    """A refusal is final; success:false is one whatever the status says."""
    network = Network(reply)
    with pytest.raises(ApiError):
        network.connect().get_subdomain()
    assert network.waits == []


def test_backoff() -> None:
    """Waits double up to the cap, with jitter, and end after the attempts."""
    network = Network(httpx.Response(500))
    with pytest.raises(UnavailableError):
        network.connect(retry=RetryPolicy(attempts=5, base_s=1, cap_s=4)).get_subdomain()
    assert network.waits == [0.75, 1.5, 3.0, 3.0]


def test_retry_after_in_seconds_and_as_a_date() -> None:
    """Both forms of Retry-After are heeded, and what cannot be read is not there."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    headers = [{"retry-after": "7"}, {"retry-after": date}, {"retry-after": "soon"}]
    network = Network(*[refused(429, 971, headers=header) for header in headers], ok({}))
    network.connect().get_subdomain()
    assert network.waits == [pytest.approx(7.25), pytest.approx(20, abs=2), pytest.approx(1.5)]


def test_budget() -> None:
    """A wait that goes beyond the budget is not begun."""
    network = Network(refused(429, 971, headers={"retry-after": "300"}))
    with pytest.raises(RateLimitedError):
        network.connect().get_subdomain()
    assert network.waits == []


def test_error_messages() -> None:
    """A message names method, endpoint without the account, status, Cloudflare's words and the ray; not the token."""
    network = Network(refused(400, 10021, "boom", headers={"cf-ray": "8f1-ARN"}))
    with pytest.raises(ApiError) as caught:
        network.connect().upload_script("s", metadata={}, modules=[])
    assert str(caught.value) == "PUT /workers/scripts/s failed with HTTP 400: 10021 boom (cf-ray 8f1-ARN)"
    assert (caught.value.status, caught.value.codes) == (400, (10021,))


@pytest.mark.parametrize(
    ("call", "permission"),
    [
        (lambda cloudflare: cloudflare.find_queue("q"), "Queues: Edit"),
        (lambda cloudflare: cloudflare.find_kv_namespace("t"), "Workers KV Storage: Edit"),
        (lambda cloudflare: cloudflare.get_subdomain(), "Workers Scripts: Edit"),
    ],
)
def test_a_permission_that_lacks_is_named(call: Callable[[WorkersApi], object], permission: str) -> None:
    """A refused token is told which permission the call needs."""
    with pytest.raises(ApiError, match=permission):
        call(Network(refused(403, 10000)).connect())


def test_a_challenge_is_recognised() -> None:
    """A firewall's page is one clear line, without the page."""
    page = httpx.Response(403, text="<html>secret page", headers={"cf-mitigated": "challenge"})
    with pytest.raises(ApiError, match="firewall") as caught:
        Network(page).connect().get_subdomain()
    assert "secret page" not in str(caught.value)


def test_a_dead_network() -> None:
    """No network is one line that names the host and asks about the network."""
    cloudflare = WorkersApi(
        api_token=Secret(TOKEN), account_id=ACCOUNT, base_url="http://127.0.0.1:9/client/v4", sleep=lambda _: None
    )
    with cloudflare, pytest.raises(UnavailableError, match=r"no answer from 127\.0\.0\.1") as caught:
        cloudflare.get_subdomain()
    assert "\n" not in str(caught.value)
    assert caught.value.status == 0


def test_an_empty_answer() -> None:
    """A 204 is a success without a result."""
    network = Network(httpx.Response(204))
    cloudflare = network.connect()
    cloudflare.set_workers_dev("s", enabled=False)
    assert cloudflare.get_subdomain() is None
    assert cloudflare.list_queue_consumers("q") == []


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f'"{TOKEN} "', f"{TOKEN}é"])
def test_a_broken_token_is_not_shown(token: str) -> None:
    """A token that no header can carry is a wrong setting, and the message does not hold it."""
    with pytest.raises(SettingsError) as caught:
        WorkersApi(api_token=Secret(token))
    assert TOKEN not in str(caught.value)


def test_repr_has_no_token() -> None:
    """The client prints without its token."""
    assert TOKEN not in repr(Network(ok()).connect())


def test_import_is_light() -> None:
    """Importing the client loads httpx, and none of the heavy things the jobs use."""
    code = "import flagedge.cloudflare, sys; print({'duckdb', 'google.protobuf', 'structlog'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
