"""Deployment records from sync_job become deployments, flag changes and allocations, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from deliveries import NOW, ask
from messages import AT_MS, body, decided, request

from log_consumer.load import Loaded
from log_consumer.store import Store

Deliver = Callable[..., Loaded]

DEPLOYMENT = {
    "worker": "confidence-cloudflare-resolver",
    "outcome": "deployed",
    "reason": "",
    "trigger": "schedule",
    "actor": "",
    "why": "",
    "started_at_ms": AT_MS - 1500,
    "finished_at_ms": AT_MS,
    "previous_state_etag": '"2e19"',
    "version_id": "v2",
    "previous_version_id": "v1",
    "settings_digest": "d",
    "timings_ms": {"fetch": 80},
}
CHANGE = {
    "flag": "flags/a",
    "rule": "flags/a/rules/r",
    "field": "assignment.ranges",
    "change": "changed",
    "old": 50,
    "new": 100,
    "text": "variant on: 50 % → 100 %",
}
ALLOCATION = {
    "flag": "flags/a",
    "rule": "flags/a/rules/r",
    "segment": "segments/s",
    "targeting_key_selector": "visitor_id",
    "kind": "variant",
    "variant": "flags/a/variants/on",
    "assignment_id": "flags/a/variants/on",
    "share": 0.5,
}


def record(seq: int = 0, **changes: Any) -> str:
    """A record in one part, or the part `seq` of a longer one."""
    parts: dict[str, Any] = {
        "deployment": DEPLOYMENT if seq == 0 else None,
        "changes": [CHANGE],
        "allocations": [ALLOCATION],
    }
    parts |= {key: changes.pop(key) for key in parts if key in changes}
    row_count = sum(1 if key == "deployment" else len(part) for key, part in parts.items() if part)
    envelope = {
        "format": "flagedge/deployment/1",
        "isolate": "dQ8s0000000000000000AA",
        "seq": seq,
        "part_count": 1,
        "sent_at_ms": AT_MS,
        "state_etag": '"3f2a"',
        "worker_version": "0.1.0",
        "row_count": row_count,
        "dropped_count": 0,
    }
    return json.dumps(envelope | {key: part for key, part in parts.items() if part is not None} | changes)


def test_a_record_in_full(deliver: Deliver, store: Store) -> None:
    loaded = deliver(record())
    assert (loaded.loaded_count, loaded.rejected_count) == (1, 0)
    assert ask(
        store,
        "select record_id, worker, outcome, reason, trigger, actor, why, epoch_ms(started_at), epoch_ms(finished_at), "
        "state_etag, previous_state_etag, version_id, previous_version_id, worker_version, settings_digest, "
        "timings_ms::varchar, landed_at from deployments",
    ) == [
        (
            "dQ8s0000000000000000AA",
            "confidence-cloudflare-resolver",
            "deployed",
            None,
            "schedule",
            None,
            None,
            AT_MS - 1500,
            AT_MS,
            '"3f2a"',
            '"2e19"',
            "v2",
            "v1",
            "0.1.0",
            "d",
            '{"fetch":80}',
            NOW,
        )
    ]
    assert ask(store, "select * exclude (record_id, changed_at) from flag_changes") == [
        (
            '"3f2a"',
            "flags/a",
            "flags/a/rules/r",
            "assignment.ranges",
            "changed",
            "50",
            "100",
            "variant on: 50 % → 100 %",
        )
    ]
    assert ask(store, "select * exclude (record_id, allocated_at) from allocations") == [
        (
            '"3f2a"',
            "flags/a",
            "flags/a/rules/r",
            "segments/s",
            "visitor_id",
            "variant",
            "flags/a/variants/on",
            "flags/a/variants/on",
            0.5,
        )
    ]


def test_parts_and_redeliveries(deliver: Deliver, store: Store) -> None:
    """Each part lands once; a run that is repeated sends the same record again."""
    deliver(record(), record(1), body(request(decided())))
    assert deliver(record(1), record()).duplicate_count == 2
    assert ask(
        store,
        "select (select count(*) from deployments), (select count(*) from flag_changes), count(*) from allocations",
    ) == [(1, 2, 2)]


@pytest.mark.parametrize("key", ["changes", "allocations"])
def test_a_record_may_lack_either_list(deliver: Deliver, store: Store, key: str) -> None:
    assert deliver(record(**{key: None})).loaded_count == 1
    assert ask(store, "select count(*) from deployments") == [(1,)]


def test_records_are_no_flag_logs_to_delivery_health(deliver: Deliver, store: Store) -> None:
    deliver(record(3), body(request(decided())))
    assert ask(store, "select expected_count, landed_count, missing_count from delivery_health") == [(1, 1, 0)]


@pytest.mark.parametrize(
    "changes",
    [
        {"row_count": 2},
        {"row_count": "3"},
        {"state_etag": None},
        {"sent_at_ms": "now"},
        {"changes": {"flag": "flags/a"}},
        {"changes": [{"rule": "r"}]},
        {"allocations": [{"flag": "flags/a"}]},
        {"allocations": [ALLOCATION | {"share": "half"}]},
        {"deployment": [DEPLOYMENT]},
        {"deployment": {"worker": "w"}},
        {"format": "flagedge/deployment/2"},
    ],
)
def test_a_broken_record_is_rejected(deliver: Deliver, store: Store, changes: dict[str, Any]) -> None:
    loaded = deliver(record(**changes))
    assert (loaded.loaded_count, loaded.rejected_count) == (0, 1)
    assert ask(store, "select count(*) from deployments") == [(0,)]
