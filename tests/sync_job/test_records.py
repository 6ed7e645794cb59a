"""Deployment records: their messages are whole, small enough and the same when they are written again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import shop

from sync_job.allocations import allocate_shares
from sync_job.decode import decode_state
from sync_job.diff import diff_states
from sync_job.records import (
    MESSAGE_MAX_BYTES,
    Deployment,
    Record,
    derive_record_id,
    new_record_id,
    read_record,
    write_messages,
)

DEPLOYMENT = Deployment("worker", "deployed", 1_000, 2_000, timings_ms={"upload": 300})
OLD, NEW = (decode_state(data).resolver_state for data in (shop.shop_payload(), shop.changed_shop_payload()))


def record(**parts: Any) -> Record:
    return replace(Record("i" * 22, '"etag"', "0.1.0", DEPLOYMENT), **parts)


def test_a_record_in_one_message() -> None:
    """The envelope of a flag-log message, the deployment, and every row, counted."""
    changes = [change.to_json() for change in diff_states(OLD, NEW)]
    allocations = [allocation.to_json() for allocation in allocate_shares(NEW)]
    [text] = write_messages(record(changes=changes, allocations=allocations))
    message = json.loads(text)
    assert message["format"] == "flagedge/deployment/1"
    assert (message["isolate"], message["seq"], message["part_count"]) == ("i" * 22, 0, 1)
    assert (message["state_etag"], message["worker_version"], message["dropped_count"]) == ('"etag"', "0.1.0", 0)
    assert message["row_count"] == 1 + len(changes) + len(allocations)
    assert (message["changes"], message["allocations"]) == (changes, allocations)
    assert message["deployment"]["timings_ms"] == {"upload": 300}
    assert message["sent_at_ms"] == message["deployment"]["finished_at_ms"] == 2_000


def test_a_record_in_parts() -> None:
    """What would pass the limit is cut into parts that hold each row once; the deployment is in the first."""
    rows = [allocation.to_json() for allocation in allocate_shares(NEW)] * 150
    texts = write_messages(record(allocations=rows))
    messages = [json.loads(text) for text in texts]
    assert len(messages) > 3
    assert all(len(text.encode()) <= MESSAGE_MAX_BYTES for text in texts)
    assert [(message["seq"], message["part_count"]) for message in messages] == [
        (number, len(messages)) for number in range(len(messages))
    ]
    assert [row for message in messages for row in message["allocations"]] == rows
    assert [bool(message.get("deployment")) for message in messages] == [True] + [False] * (len(messages) - 1)
    for message in messages:
        rows_here = len(message["changes"]) + len(message["allocations"])
        assert message["row_count"] == rows_here + ("deployment" in message)


def test_rows_keep_their_parts() -> None:
    """Written again by a later run, with other times and words, a record has the same rows in each part."""
    rows = [allocation.to_json() for allocation in allocate_shares(NEW)] * 150
    later = replace(DEPLOYMENT, finished_at_ms=10**15, reason="r" * 5000, why="ä" * 5000, timings_ms={"prove": 10**9})
    first, second = (
        [json.loads(text)["allocations"] for text in write_messages(record(allocations=rows, deployment=deployment))]
        for deployment in (DEPLOYMENT, later)
    )
    assert first == second
    assert all(len(text.encode()) <= MESSAGE_MAX_BYTES for text in write_messages(record(deployment=later)))


def test_a_value_that_is_too_long() -> None:
    """A change with a huge value says how large it is; a long text is cut."""
    change = {"flag": "flags/a", "rule": "", "field": "variant", "change": "changed", "old": "x" * 10**6, "new": 1}
    [text] = write_messages(record(changes=[change | {"text": "t" * 10**6}]))
    [told] = json.loads(text)["changes"]
    assert told["old"] == {"too_long_bytes": 10**6 + 2}
    assert told["new"] == 1
    assert len(text) < 10_000


def test_ids() -> None:
    """New ones differ; derived ones are the same for the same facts. Both are 22 characters, as an isolate's."""
    assert new_record_id() != new_record_id()
    assert derive_record_id("a", "b") == derive_record_id("a", "b") != derive_record_id("ab")
    assert len(new_record_id()) == len(derive_record_id("a")) == 22


def test_archived_copies() -> None:
    """What is kept is read back as it was."""
    kept = record(changes=[{"flag": "f"}], allocations=[{"share": 0.5}])
    told = read_record(json.dumps(kept.to_json()).encode())
    assert told == replace(kept, changes=[{"flag": "f"}], allocations=[{"share": 0.5}])
