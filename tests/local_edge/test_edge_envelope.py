"""The envelope around every answer, and the codes of what is missing or there already."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from edge_account import EdgeAccount, new_name

ENVELOPE = {"success", "errors", "messages", "result"}


def test_every_answer_has_an_envelope(account: EdgeAccount) -> None:
    """Every answer is an envelope, but the value of a key and the code of a script."""
    script = new_name("envelope")
    account.upload(script)
    queue_id, _ = account.create_queue()
    namespace = account.call("POST", "/storage/kv/namespaces", {"title": new_name("kv")}).result["id"]
    paths = [
        *("/queues", f"/queues/{queue_id}", f"/queues/{queue_id}/consumers", f"/queues/{queue_id}/metrics"),
        *(
            "/workers/scripts",
            "/workers/subdomain",
            "/storage/kv/namespaces",
            f"/storage/kv/namespaces/{namespace}/keys",
        ),
        *(f"/workers/scripts/{script}/{part}" for part in ("settings", "script-settings", "secrets", "subdomain")),
        *(f"/workers/scripts/{script}/{part}" for part in ("versions", "deployments")),
    ]
    for path in paths:
        body = account.call("GET", path).body
        assert (body.keys() >= ENVELOPE, body["success"], body["errors"]) == (True, True, []), path
    account.http.put(f"/storage/kv/namespaces/{namespace}/values/k", content=b"raw")
    assert account.http.get(f"/storage/kv/namespaces/{namespace}/values/k").content == b"raw"
    assert account.http.get(f"/workers/scripts/{script}").text.startswith("export default")


@pytest.mark.parametrize(
    ("method", "path", "refusal"),
    [
        ("GET", "/workers/scripts/none", (404, 10007)),
        ("GET", "/workers/scripts/none/settings", (404, 10007)),
        ("PATCH", "/workers/scripts/none/script-settings", (404, 10007)),
        ("GET", "/workers/scripts/none/secrets", (404, 10007)),
        ("GET", "/workers/scripts/none/versions/x", (404, 10007)),
        ("POST", "/workers/scripts/none/deployments", (404, 10007)),
        ("DELETE", "/workers/scripts/none", (404, 10007)),
        ("GET", "/queues/none", (404, 11000)),
        ("POST", "/queues/none/messages/pull", (404, 11000)),
        ("GET", "/storage/kv/namespaces/none/keys", (404, 10013)),
        ("GET", "/no/such/route", (404, 7003)),
        ("PATCH", "/queues", (405, 10405)),
    ],
)
def test_what_is_missing(account: EdgeAccount, method: str, path: str, refusal: tuple[int, int]) -> None:
    """What is not there is an envelope with a 4xx, success false and a numeric code."""
    answer = account.call(method, path, {})
    assert answer.refusal == refusal
    assert answer.body.keys() >= ENVELOPE
    assert isinstance(answer.body["errors"][0]["message"], str)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1"])
def test_unreadable_bodies(account: EdgeAccount, body: bytes) -> None:
    """A body that is no JSON object is a 10026."""
    script = new_name("body")
    account.upload(script)
    for path in ("/queues", "/storage/kv/namespaces", f"/workers/scripts/{script}/deployments"):
        answer = account.http.post(path, content=body)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, 10026), path


@pytest.mark.parametrize("query", ["page=0", "per_page=0", "per_page=101", "page=x"])
def test_wrong_pages(account: EdgeAccount, query: str) -> None:
    """Pages count from 1, and have at most 100 items."""
    assert account.call("GET", f"/queues?{query}").refusal == (400, 10026)


def test_the_faults_of_the_network(account: EdgeAccount) -> None:
    """429 with either Retry-After, an error page, a 200 that says no: each is what a client has to live with."""
    faults: list[dict[str, Any]] = [
        {"kind": "status", "status": 429, "retry_after": 1},
        {"kind": "status", "status": 429, "retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"},
        {"kind": "html", "status": 503},
        {"kind": "success_false"},
    ]
    account.set_faults(*faults)
    answers = [account.http.get("/queues") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [429, 429, 503, 200, 200]
    assert [answer.headers.get("retry-after") for answer in answers[:2]] == ["1", faults[1]["retry_after"]]
    with pytest.raises(ValueError, match="Expecting value"):
        answers[2].json()
    assert [answer.json()["success"] for answer in answers[3:]] == [False, True]


def test_requests_are_remembered(account: EdgeAccount) -> None:
    """What was asked since the last time can be taken once."""
    account.edge.take_requests()
    account.call("GET", "/queues")
    httpx.get(f"{account.edge.cdn_url}/none")
    assert [(item["method"], item["status"]) for item in account.edge.take_requests()] == [("GET", 200), ("GET", 404)]
    assert account.edge.take_requests() == []
