"""Deployment records from sync_job become deployments, flag changes and allocations, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from deliveries import NOW, ask
from messages import ALLOCATION, AT_MS, DEPLOYMENT, body, decided, record, request

from log_consumer.load import Loaded
from log_consumer.store import Store

Deliver = Callable[..., Loaded]


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
