"""Faults on demand and the log of requests."""

from __future__ import annotations

import httpx
import pytest
from edge_account import EdgeAccount, new_name


def test_status_faults_pass(account: EdgeAccount) -> None:
    """A fault strikes as often as it says, with the Retry-After it says, then all is well."""
    account.set_faults({"match": "GET .*/queues$", "kind": "status", "status": 429, "retry_after": 7, "times": 2})
    for _ in range(2):
        answer = account.call("GET", "/queues")
        assert (answer.status, answer.response.headers["retry-after"]) == (429, "7")
        assert answer.body["success"] is False
    assert account.call("GET", "/queues").status == 200


def test_html_and_success_false(account: EdgeAccount) -> None:
    """An error may come as a page, and a refusal as a 200."""
    account.set_faults(
        {"match": "GET .*/queues", "kind": "html", "status": 502},
        {"match": "GET .*/queues", "kind": "success_false", "code": 10002},
    )
    page = account.http.get("/queues")
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html; charset=utf-8")
    assert account.call("GET", "/queues").refusal == (200, 10002)


@pytest.mark.parametrize(
    ("kind", "error"),
    [("reset", httpx.NetworkError), ("timeout", httpx.ReadTimeout), ("truncate", httpx.TransportError)],
)
def test_broken_connections(account: EdgeAccount, kind: str, error: type[Exception]) -> None:
    """A connection may be reset, stay silent, or end in the middle of an answer."""
    account.set_faults({"match": "GET .*/queues", "kind": kind})
    with pytest.raises(error):
        account.http.get("/queues", timeout=0.3)
    assert account.call("GET", "/queues").status == 200


def test_a_lost_answer(account: EdgeAccount) -> None:
    """`lost` does what was asked and keeps the answer back."""
    name = new_name("queue")
    account.set_faults({"match": "POST .*/queues", "kind": "lost"})
    with pytest.raises(httpx.NetworkError):
        account.http.post("/queues", json={"queue_name": name})
    assert account.call("POST", "/queues", {"queue_name": name}).refusal == (409, 11009)


def test_short_pulls(account: EdgeAccount) -> None:
    """`short` brings half of what a pull asks for, with the backlog's true count."""
    queue_id, _ = account.create_queue()
    account.push(queue_id, *range(10))
    account.set_faults({"match": "POST .*/messages/pull", "kind": "short"})
    answer = account.call("POST", f"/queues/{queue_id}/messages/pull", {"batch_size": 10})
    assert (len(answer.result["messages"]), answer.result["message_backlog_count"]) == (5, 10)


def test_cdn_faults_and_the_log(account: EdgeAccount) -> None:
    """CDN requests meet faults too; the log names method, path and status, and can be cleared."""
    log = f"{account.edge.url}/local/requests"
    httpx.delete(log)
    account.set_faults({"match": "GET /cdn/", "kind": "status", "status": 503})
    httpx.get(f"{account.edge.cdn_url}/x")
    httpx.get(f"{account.edge.cdn_url}/x")
    assert httpx.get(log).json() == [
        {"method": "GET", "path": "/cdn/x", "status": 503},
        {"method": "GET", "path": "/cdn/x", "status": 404},
    ]
    httpx.delete(log)
    assert httpx.get(log).json() == []


def test_wrong_faults(account: EdgeAccount) -> None:
    """A fault with an unknown kind or field is refused."""
    for fault in ({"match": ".*", "kind": "gremlin"}, {"match": ".*", "kind": "reset", "tims": 1}):
        assert httpx.post(f"{account.edge.url}/local/faults", json=[fault]).status_code == 400


def test_the_nth_call(account: EdgeAccount) -> None:
    """Without `match` a fault strikes the nth API call from now, and only that one."""
    account.set_faults({"kind": "status", "status": 503, "nth": 3})
    httpx.get(f"{account.edge.cdn_url}/none")  # no API call
    assert [account.http.get(path).status_code for path in ("/queues", "/workers/scripts", "/queues", "/queues")] == [
        200,
        200,
        503,
        200,
    ]


def test_the_nth_call_that_matches(account: EdgeAccount) -> None:
    """With `match` only matching calls count, those that another fault strikes too."""
    account.set_faults(
        {"match": "GET .*/queues", "kind": "status", "status": 500, "nth": 2, "times": 2},
        {"match": "GET .*/queues", "kind": "status", "status": 502, "nth": 4},
    )
    account.http.get("/workers/scripts")
    assert [account.http.get("/queues").status_code for _ in range(5)] == [200, 500, 500, 502, 200]


def test_a_lost_deployment(account: EdgeAccount) -> None:
    """A deployment whose answer is lost was made all the same: asking again makes another one."""
    script = new_name("lost")
    _, (_, new) = account.start_versions(script, 2)
    before = account.active(script)["id"]
    account.set_faults({"match": "POST .*/deployments", "kind": "lost"})
    with pytest.raises(httpx.NetworkError):
        account.deploy(script, {new: 100})
    made = account.active(script)
    assert (made["id"] != before, made["versions"][0]["version_id"]) == (True, new)
    assert account.deploy(script, {new: 100}).result["id"] != made["id"]
