"""The flags that every client's test asks for, and a Worker that serves them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

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
COLUMNS = 3
PAYLOAD = payload(
    state(
        flag("f", rule(assignments=[assignment("on")]), variants=[variant("on", VALUE)], schema=schema(TYPES)),
        flag(
            "swedish",
            rule(segment="se", assignments=[assignment("on")]),
            variants=[variant("on", VALUE)],
            schema=schema(TYPES),
        ),
        flag(
            "checkout",
            rule(assignments=[assignment("on")]),
            variants=[variant("on", {"columns": COLUMNS, "express": True})],
            schema=schema({"columns": int, "express": bool}),
        ),
        flag("keyed", rule(assignments=[assignment("on", (0, 100))], selector="visitor_id")),
        segments=[segment("se", eq("country", "SE"))],
    )
)

Call = tuple[str, str, Any, str | None, dict[str, Any]]
"""Type, flag key, default, targeting key, attributes."""


class Exposure(NamedTuple):
    """What was told of a visitor: full names, and the unit that decided."""

    flag: str
    rule: str
    variant: str
    unit: str


class Site:
    """A deployed Worker and the queue behind it."""

    def __init__(self, url: str, api: WorkersApi, outcome: str) -> None:
        self.url = url
        self.outcome = outcome
        """That of the run that brought the flags live."""
        self._api = api

    def take_exposures(self) -> list[Exposure]:
        """The exposures with a variant that are in the queue, acknowledged."""
        return [exposure for message in self._take_messages() for exposure in _exposures_of(message)]

    def _take_messages(self) -> list[dict[str, Any]]:
        queue = self._api.find_queue("flag-logs-queue")
        assert queue is not None
        answer = json.loads(self._api.pull_messages(queue.queue_id, visibility_timeout_ms=60_000))
        messages = answer["result"]["messages"]
        if messages:
            self._api.ack_messages(queue.queue_id, acks=[message["lease_id"] for message in messages])
        bodies = [json.loads(message["body"]) for message in messages]
        return [body for body in bodies if body["format"] == "flagedge/1"]


@contextmanager
def run_site(directory: Path, **settings: str) -> Iterator[Site]:
    """Deploy the flags to an account of its own, with these settings."""
    with LocalEdge(dir=directory, grace_s=0.5) as edge:
        edge.publish_state(SECRET, PAYLOAD)
        with deploy(edge, operator_environ(edge, SECRET) | settings) as site:
            yield site


@contextmanager
def deploy(edge: LocalEdge, environ: dict[str, str]) -> Iterator[Site]:
    """Deploy what the edge's CDN serves, with these settings."""
    settings = read_sync_settings({"LEASE": "off", "PROBE": "off"} | environ)
    with WorkersApi(api_token=settings.api_token, base_url=edge.api_url) as api:
        done = job.run(settings, api)
        yield Site(edge.worker_url(WORKER), api, done.outcome)


def _exposures_of(message: dict[str, Any]) -> Iterator[Exposure]:
    """By docs/log-format.md; none of our tests' names is one that stands whole."""
    outcomes, rules, rows = message["outcomes"], message["rules"], message["exposures"]
    for outcome, unit in zip(rows["outcome"], rows["unit"], strict=True):
        variant = outcomes["variant"][outcome]
        if variant is not None:
            flag = f"flags/{message['flags'][outcomes['flag'][outcome]]}"
            rule = f"{flag}/rules/{rules['rule'][outcomes['rule'][outcome]]}"
            yield Exposure(flag, rule, f"{flag}/variants/{variant}", message["units"][unit])
