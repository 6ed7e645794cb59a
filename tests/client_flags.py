"""The flags that every client's test asks for, and a Worker that serves them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builders import SECRET, assignment, flag, payload, rule, schema, state, variant
from operators import operator_environ
from segments import eq, segment

from local_edge.server import LocalEdge
from sync_job import job
from sync_job.settings import read_sync_settings
from sync_job.workers_api import WorkersApi

WORKER = "confidence-cloudflare-resolver"
VALUE = {"on": True, "name": "é😀", "count": 5, "price": 5.0, "ratio": 0.25, "nested": {"deep": "yes"}, "tags": ["a"]}
TYPES = {"on": bool, "name": str, "count": int, "price": float, "ratio": float, "nested": {"deep": str}, "tags": [str]}
PAYLOAD = payload(
    state(
        flag("f", rule(assignments=[assignment("on")]), variants=[variant("on", VALUE)], schema=schema(TYPES)),
        flag(
            "swedish",
            rule(segment="se", assignments=[assignment("on")]),
            variants=[variant("on", VALUE)],
            schema=schema(TYPES),
        ),
        flag("keyed", rule(assignments=[assignment("on", (0, 100))], selector="visitor_id")),
        segments=[segment("se", eq("country", "SE"))],
    )
)

Call = tuple[str, str, Any, str | None, dict[str, Any]]
"""Type, flag key, default, targeting key, attributes."""


class Site:
    """A deployed Worker and the queue behind it."""

    def __init__(self, url: str, api: WorkersApi) -> None:
        self.url = url
        self._api = api

    def take_messages(self) -> list[dict[str, Any]]:
        """The flag-log messages in the queue, acknowledged."""
        queue = self._api.find_queue("flag-logs-queue")
        assert queue is not None
        answer = json.loads(self._api.pull_messages(queue.queue_id, visibility_timeout_ms=60_000))
        messages = answer["result"]["messages"]
        if messages:
            self._api.ack_messages(queue.queue_id, acks=[message["lease_id"] for message in messages])
        bodies = [json.loads(message["body"]) for message in messages]
        return [body for body in bodies if body["format"] == "flagedge/1"]


@contextmanager
def run_site(directory: Path, state_payload: bytes = PAYLOAD, **settings: str) -> Iterator[Site]:
    """Deploy flags to an account of its own, with these settings."""
    with LocalEdge(dir=directory, grace_s=0.5) as edge:
        edge.publish_state(SECRET, state_payload)
        read = read_sync_settings(operator_environ(edge, SECRET) | {"LEASE": "off", "PROBE": "off"} | settings)
        with WorkersApi(api_token=read.api_token, base_url=edge.api_url) as api:
            job.run(read, api)
            yield Site(edge.worker_url(WORKER), api)
