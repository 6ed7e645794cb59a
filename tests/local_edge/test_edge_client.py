"""The Cloudflare client of the jobs against the account on loopback, faults included."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from edge_account import HELLO, JAVASCRIPT, EdgeAccount, new_name

from flagedge.errors import ApiError
from flagedge.settings import Secret
from sync_job.workers_api import Module, WorkersApi


@pytest.fixture
def cloudflare(account: EdgeAccount) -> Iterator[WorkersApi]:
    """A client that finds its account, and does not sleep long."""
    with WorkersApi(api_token=Secret("any"), base_url=account.edge.api_url, sleep=lambda _: None) as client:
        yield client


def upload(cloudflare: WorkersApi, script: str, code: str = HELLO, **metadata: object) -> None:
    described = {"main_module": "main.js", "compatibility_date": "2026-10-01", **metadata}
    cloudflare.upload_script(script, metadata=described, modules=[Module("main.js", code.encode(), JAVASCRIPT)])


def test_deploy(account: EdgeAccount, cloudflare: WorkersApi) -> None:
    """Everything that a deploy asks for works: absent at first, there afterwards."""
    script = new_name("client")
    assert cloudflare.get_script_settings(script) is None
    upload(cloudflare, script, bindings=[{"type": "secret_text", "name": "KEY", "text": "v"}])
    cloudflare.set_workers_dev(script, enabled=True)
    assert (cloudflare.get_script_settings(script) or {})["bindings"] == [{"type": "secret_text", "name": "KEY"}]
    assert cloudflare.get_subdomain() == "local"
    assert httpx.get(account.edge.worker_url(script)).status_code == 200
    with pytest.raises(ApiError, match="10021 Uncaught Error: boom"):
        upload(cloudflare, script, "throw new Error('boom')")


def test_queue_and_namespace(cloudflare: WorkersApi) -> None:
    """Ensuring a queue, its consumer and a namespace twice gives the same ones."""
    name = new_name("client")
    assert cloudflare.find_queue(name) is None
    queue = cloudflare.create_queue(name)
    assert cloudflare.create_queue(name) == queue == cloudflare.find_queue(name)
    consumer = cloudflare.create_pull_consumer(queue.queue_id)
    assert cloudflare.create_pull_consumer(queue.queue_id) == consumer
    assert cloudflare.list_queue_consumers(queue.queue_id) == [consumer]
    namespace_id = cloudflare.create_kv_namespace(name)
    assert cloudflare.create_kv_namespace(name) == namespace_id == cloudflare.find_kv_namespace(name)


def test_drain_through_faults(account: EdgeAccount, cloudflare: WorkersApi) -> None:
    """Pull and ack get through 429, 5xx pages, resets and cut answers without losing a message."""
    queue_id, _ = account.create_queue(retry_delay=0)
    account.push(queue_id, *range(20))
    account.set_faults(
        {"match": "POST .*/pull", "kind": "status", "status": 429, "retry_after": 1},
        {"match": "POST .*/pull", "kind": "reset"},
        {"match": "POST .*/ack", "kind": "html", "status": 503},
        {"match": "POST .*/pull", "kind": "truncate"},
        {"match": "POST .*/ack", "kind": "truncate"},
    )
    acked = 0
    for _ in range(10):
        text = cloudflare.pull_messages(queue_id, batch_size=7, visibility_timeout_ms=200)
        leases = [message["lease_id"] for message in json.loads(text)["result"]["messages"]]
        acked += len(leases)
        cloudflare.ack_messages(queue_id, acks=leases)
    metrics = account.call("GET", f"/queues/{queue_id}/metrics").result
    assert metrics["backlog_count"] + acked == 20
