"""Trying again what was put aside: messages that could not be loaded, and those that Confidence did not take.

A rejected message is decoded once more, as if it had just been delivered: by a version that knows its form by now, or
whose bug is mended. What can be loaded becomes rows and leaves `rejected_messages` in the same transaction; the rest
stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flagedge.errors import FlagedgeError
from log_consumer.clock import utc_now
from log_consumer.engine import blames_data, describe_blame, fetch_one
from log_consumer.load import Batch, Loaded, decode, load, make_stage
from log_consumer.outbox import Outbox
from log_consumer.privacy import STORE_PLAIN, KeyPolicy, enter_key
from log_consumer.pull import halve, write_answer
from log_consumer.store import Store

# Messages a transaction; they have up to 128 kB each.
BATCH_ROWS = 100


@dataclass(slots=True)
class Redriven:
    """What became of messages that were put aside. `reasons`: of those that stay rejected, how many by reason."""

    loaded_count: int = 0
    duplicate_count: int = 0
    unparked_count: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def rejected_count(self) -> int:
        return sum(self.reasons.values())

    def facts(self) -> dict[str, Any]:
        return {
            "loaded_count": self.loaded_count,
            "duplicate_count": self.duplicate_count,
            "rejected_count": self.rejected_count,
            "unparked_count": self.unparked_count,
            "reasons": self.reasons,
        }


def redrive(store: Store, *, fills_outbox: bool, policy: KeyPolicy = STORE_PLAIN, dry_run: bool = False) -> Redriven:
    """Load what can be loaded by now, and have what was parked offered to Confidence again.

    `dry_run` only tells what would become of each message. Raises LocalError when the database cannot be had.
    """
    redriven = load_rejected(store, fills_outbox=fills_outbox, policy=policy, dry_run=dry_run)
    redriven.unparked_count = _count_parked(store) if dry_run else Outbox(store).redrive()
    return redriven


def load_rejected(store: Store, *, fills_outbox: bool, policy: KeyPolicy, dry_run: bool = False) -> Redriven:
    """Load what can be loaded by now, and leave the rest rejected."""
    enter_key(store, policy)
    make_stage(store.connection, policy)
    redriven, last_id = Redriven(), ""
    while messages := _take(store, last_id):
        last_id = messages[-1]["id"]
        _redrive(store, [write_answer(messages)], redriven, fills_outbox=fills_outbox, dry_run=dry_run)
    return redriven


def _take(store: Store, after_id: str) -> list[dict[str, Any]]:
    """The next rejected messages, as a pull brings them."""
    with store.transaction(merge=False) as connection:
        rows = connection.execute(
            "select message_id, body, content_type, attempts, epoch_ms(queued_at) from rejected_messages "
            "where message_id > $1 order by message_id limit $2",
            [after_id, BATCH_ROWS],
        ).fetchall()
    return [
        {
            "id": message_id,
            "lease_id": "",
            "body": body,
            "attempts": attempts,
            "timestamp_ms": queued_at_ms,
            "metadata": {"CF-Content-Type": content_type},
        }
        for message_id, body, content_type, attempts, queued_at_ms in rows
    ]


def _redrive(store: Store, texts: Sequence[str], redriven: Redriven, *, fills_outbox: bool, dry_run: bool) -> None:
    """As one batch; where its data is to blame for a failure, in halves, until a message is alone, which stays."""
    try:
        batch = decode(store.connection, texts, now=utc_now(), keeps_text=fills_outbox)
        reasons = dict(_read_reasons(store))
        if dry_run:
            loaded = Loaded({}, batch.message_count - batch.rejected_count, 0, batch.rejected_count)
        elif batch.rejected_count < batch.message_count:
            loaded = _load(store, batch, fills_outbox=fills_outbox)
        else:
            loaded = Loaded({}, 0, 0, batch.rejected_count)
    except FlagedgeError as exc:
        if not blames_data(exc):
            raise
        parts = halve(texts)
        if len(parts) > 1:
            for part in parts:
                _redrive(store, part, redriven, fills_outbox=fills_outbox, dry_run=dry_run)
            return
        reasons, loaded = {describe_blame(exc): 1}, Loaded({}, 0, 0, 1)
    _add(redriven, reasons, loaded)


def _load(store: Store, batch: Batch, *, fills_outbox: bool) -> Loaded:
    with store.transaction() as connection:
        accepted = "select message_id from judged where reason is null"
        connection.execute(f"delete from rejected_messages where message_id in ({accepted})")  # noqa: S608 - ours
        return load(connection, batch, is_lake=store.is_lake, fills_outbox=fills_outbox)


def _read_reasons(store: Store) -> Iterator[tuple[str, int]]:
    yield from store.connection.execute(
        "select reason, count(*) from judged where reason is not null group by reason order by reason"
    ).fetchall()


def _add(redriven: Redriven, reasons: dict[str, int], loaded: Loaded) -> None:
    redriven.loaded_count += loaded.loaded_count
    redriven.duplicate_count += loaded.duplicate_count
    for reason, count in reasons.items():
        redriven.reasons[reason] = redriven.reasons.get(reason, 0) + count


def _count_parked(store: Store) -> int:
    with store.transaction(merge=False) as connection:
        return int(fetch_one(connection, "select count(*) from outbox where parked_at is not null")[0])
