"""Conditions: what production does to its clients, switched on."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import httpx
import pytest
from edge_account import EdgeAccount, new_name

from flagedge.errors import LocalError


def test_conditions_are_reset(account: EdgeAccount) -> None:
    """Conditions hold until they are changed; `reset` brings the defaults back."""
    url = f"{account.edge.url}/local/conditions"
    defaults = httpx.get(url).json()
    account.edge.set_conditions(propagation_ms=5, kv_stale_s=1)
    assert httpx.get(url).json() == {**defaults, "propagation_ms": 5, "kv_stale_s": 1}
    account.edge.reset()
    assert httpx.get(url).json() == defaults


@pytest.mark.parametrize("change", [{"rate": 1}, {"rate_limit": "5"}, {"rate_limit": True}, {"propagation_ms": -1}])
def test_wrong_conditions(account: EdgeAccount, change: dict[str, Any]) -> None:
    """An unknown condition, or a value of another kind, is refused."""
    with pytest.raises(LocalError):
        account.edge.set_conditions(**change)


def test_rate_limit_headers(account: EdgeAccount) -> None:
    """Each answer says what is left and when it starts anew; without a limit there are no such headers."""
    assert "ratelimit" not in account.call("GET", "/queues").response.headers
    account.edge.set_conditions(rate_limit=1200)
    first, second = (account.call("GET", "/queues").response.headers for _ in range(2))
    assert (first["ratelimit"], first["ratelimit-policy"]) == ('"default";r=1199;t=300', '"default";q=1200;w=300')
    assert second["ratelimit"].startswith('"default";r=1198;t=')


def test_rate_limit(account: EdgeAccount) -> None:
    """Beyond the limit all calls of the token are blocked for the length of the window, then all is well."""
    queue_id, _ = account.create_queue()
    account.edge.set_conditions(rate_limit=3, rate_limit_window_s=2)
    assert [account.call("GET", "/queues").status for _ in range(5)] == [200, 200, 200, 429, 429]
    blocked = account.call("GET", "/workers/scripts")
    assert blocked.body["success"] is False
    assert blocked.response.headers["retry-after"] in {"1", "2"}
    assert blocked.response.headers["ratelimit"].startswith('"default";r=0;t=')
    assert account.call("GET", "/queues", headers={"authorization": "Bearer another"}).status == 200
    assert account.call("POST", f"/queues/{queue_id}/messages/pull", {}).status == 200
    assert account.call("POST", f"/queues/{queue_id}/messages/ack", {"acks": [{"lease_id": "x"}]}).status == 200
    time.sleep(2.05)
    assert account.call("GET", "/queues").status == 200


def test_propagation(account: EdgeAccount) -> None:
    """After a deployment the edge answers with the old version for a while, also to an override of the new one."""
    script = new_name("spread")
    url, (old, new) = account.start_versions(script, 2)
    account.edge.set_conditions(propagation_ms=2_000)
    account.deploy(script, {new: 100})
    began = time.monotonic()
    override = {"cloudflare-workers-version-overrides": f'{script}="{new}"'}
    assert account.active(script)["versions"][0]["version_id"] == new
    assert {httpx.get(url).text, httpx.get(url, headers=override).text} == {old}
    while httpx.get(url).text == old:
        assert time.monotonic() - began < 10
        time.sleep(0.02)
    assert time.monotonic() - began > 1.5
    assert httpx.get(url).text == new


def test_propagation_of_workers_dev(account: EdgeAccount) -> None:
    """A first deployment and its address spread too."""
    account.edge.set_conditions(propagation_ms=2_000)
    url = account.publish(new_name("first"))
    assert httpx.get(url).status_code == 404
    deadline = time.monotonic() + 10
    while httpx.get(url).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_mixed_propagation(account: EdgeAccount) -> None:
    """With `propagation_mixed` requests meet the old and the new version by turns until the change has spread."""
    script = new_name("mixed")
    url, (old, new) = account.start_versions(script, 2)
    account.edge.set_conditions(propagation_ms=600, propagation_mixed=True)
    account.deploy(script, {new: 100})
    with httpx.Client() as client:
        met = Counter(client.get(url).text for _ in range(40))
        assert met.keys() == {old, new}
        time.sleep(0.7)
        assert {client.get(url).text for _ in range(20)} == {new}


def test_changes_spread_in_their_order(account: EdgeAccount) -> None:
    """A change that spreads faster than the one before it is not undone by that one."""
    script = new_name("order")
    url, (_, slow, fast) = account.start_versions(script, 3)
    account.edge.set_conditions(propagation_ms=300)
    account.deploy(script, {slow: 100})
    account.edge.set_conditions(propagation_ms=0)
    account.deploy(script, {fast: 100})
    assert httpx.get(url).text == fast
    time.sleep(0.4)
    assert httpx.get(url).text == fast


def test_a_consumer_settles(account: EdgeAccount) -> None:
    """For a while after its pull consumer was made a queue answers 405."""
    account.edge.set_conditions(consumer_settle_ms=600)
    queue_id, _ = account.create_queue()
    path = f"/queues/{queue_id}/messages/pull"
    assert account.call("POST", path, {}).status == 405
    time.sleep(0.65)
    assert account.call("POST", path, {}).status == 200


def test_short_pulls(account: EdgeAccount) -> None:
    """Pulls may bring fewer messages than there are, or none, and the backlog's count says so."""
    queue_id, _ = account.create_queue()
    account.push(queue_id, *range(60))
    account.edge.set_conditions(short_pulls=1.0)
    sizes, backlogs = set(), set()
    for _ in range(40):
        result = account.call(
            "POST", f"/queues/{queue_id}/messages/pull", {"batch_size": 3, "visibility_timeout_ms": 1}
        ).result
        sizes.add(len(result["messages"]))
        backlogs.add(result["message_backlog_count"])
    assert sizes == {0, 1, 2}
    assert backlogs == {60}


def test_kv_writes_without_limit(account: EdgeAccount) -> None:
    """The limit of one write a second and key can be switched off."""
    namespace = account.call("POST", "/storage/kv/namespaces", {"title": new_name("kv")}).result["id"]
    path = f"/storage/kv/namespaces/{namespace}/values/k"
    assert [account.http.put(path, content=b"v").status_code for _ in range(2)] == [200, 429]
    account.edge.set_conditions(kv_write_limit=False)
    assert [account.http.put(path, content=b"v").status_code for _ in range(2)] == [200, 200]
