"""Facts of real isolates with a real queue: nothing shared that must not be, nothing lost that can be kept."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import shop
from operators import operator_environ

from flagedge.settings import Secret
from local_edge.server import LocalEdge
from sync_job import job
from sync_job.settings import read_sync_settings
from sync_job.workers_api import WorkersApi

WORKER = "confidence-cloudflare-resolver"
REQUESTS = 400


class Deployed:
    """A Worker with its queue, on an account of its own."""

    def __init__(self, edge: LocalEdge) -> None:
        self.edge = edge
        edge.publish_state(shop.WEB_SECRET, shop.shop_payload())
        self._settings = read_sync_settings(operator_environ(edge, shop.WEB_SECRET) | {"LOG_LINGER_MS": "100"})
        self.cloudflare = WorkersApi(api_token=Secret("t"), base_url=edge.api_url)

    def deploy(self) -> None:
        """Deploy again: a fresh isolate."""
        job.run(self._settings, self.cloudflare, job.RunOptions(force=True))

    def resolve(self, count: int) -> list[str]:
        """Resolve for many visitors at once; the resolve ids."""
        with httpx.Client(base_url=self.edge.worker_url(WORKER), timeout=30) as client, ThreadPoolExecutor(16) as pool:
            return list(pool.map(lambda context: self._resolve_one(client, context), shop.visitors(count)))

    def _resolve_one(self, client: httpx.Client, context: dict[str, Any]) -> str:
        body = {"clientSecret": shop.WEB_SECRET, "evaluationContext": context, "apply": True}
        return str(client.post("/v1/flags:resolve", json=body).raise_for_status().json()["resolveId"])

    def messages(self) -> list[dict[str, Any]]:
        """All flag-log messages in the queue, acknowledged; records of deployments among them are left out."""
        queue = self.cloudflare.find_queue("flag-logs-queue")
        assert queue is not None
        found: list[dict[str, Any]] = []
        while batch := self._pull(queue.queue_id):
            self.cloudflare.ack_messages(queue.queue_id, acks=[message["lease_id"] for message in batch])
            found += [json.loads(message["body"]) for message in batch]
        return [message for message in found if message["format"] == "flagedge/1"]

    def _pull(self, queue_id: str) -> list[dict[str, Any]]:
        text = self.cloudflare.pull_messages(queue_id, visibility_timeout_ms=60_000)
        batch: list[dict[str, Any]] = json.loads(text)["result"]["messages"]
        return batch


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    with LocalEdge(dir=tmp_path / "edge", grace_s=1) as edge:
        deployed = Deployed(edge)
        with deployed.cloudflare:
            deployed.deploy()
            yield deployed


def test_concurrent_requests_log_every_row(deployed: Deployed) -> None:
    """400 requests at once leave 400 resolves with all their exposures, in far fewer messages."""
    ids = deployed.resolve(REQUESTS)
    time.sleep(1)
    messages = deployed.messages()
    logged = [resolve_id for message in messages for resolve_id in message["resolves"]["id"]]
    assert sorted(logged) == sorted(ids)
    assert len(messages) < REQUESTS / 10
    for message in messages:
        rows = sum(
            len(next(iter(message[table].values()))) for table in ("resolves", "exposures", "fallthroughs", "counts")
        )
        assert rows == message["row_count"]


def test_fresh_isolates_share_no_id(deployed: Deployed) -> None:
    """Resolve ids and isolate ids of two isolates never meet."""
    first = deployed.resolve(50)
    deployed.deploy()
    second = deployed.resolve(50)
    time.sleep(1)
    messages = deployed.messages()
    assert len(set(first + second)) == 100
    assert len({message["isolate"] for message in messages}) >= 2
    assert len({(message["isolate"], message["seq"]) for message in messages}) == len(messages)


def test_a_queue_that_fails_for_a_while_loses_nothing(deployed: Deployed) -> None:
    """Sends that are refused are made again; the caller never notices."""
    fault = {"match": "POST /bindings/queue/.*", "times": 2, "kind": "status", "status": 500}
    httpx.post(f"{deployed.edge.url}/local/faults", json=[fault]).raise_for_status()
    ids = deployed.resolve(20)
    time.sleep(3)
    assert sorted(resolve_id for message in deployed.messages() for resolve_id in message["resolves"]["id"]) == sorted(
        ids
    )
