"""The outbox: what landed and has not been delivered to Confidence, in the same database as the rows.

It is filled by the transaction that loads a batch (sql/outbox/fill.sql) and emptied in turns: one hold of the file
writes down what became of the messages taken before, and takes the next. Between turns the file belongs to others.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from log_consumer.engine import fetch_one
from log_consumer.store import Store

SQL = Path(__file__).parent / "sql" / "outbox"
# A forwarder that was killed keeps the outbox from others for so long at the most; a turn takes less.
LEASE = timedelta(minutes=5)
TAKEN_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Message:
    """A message that waits. `refused_count` are the attempts to which the answer was that another will not help."""

    isolate: str
    seq: int
    landed_at: datetime
    attempt_count: int
    refused_count: int
    text: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that is done with; no destination when there was nothing in it to send."""

    message: Message
    destination: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A message that nobody took: it is tried again after `wait_s`, or parked."""

    message: Message
    error: str
    wait_s: float = 0.0
    is_refused: bool = False
    is_parked: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """A body that a destination did not take, whatever became of it elsewhere."""

    destination: str | None
    error: str
    message_count: int


@dataclass(slots=True)
class Report:
    """What became of the messages of a turn. Those that it does not name were not tried, and stay due."""

    delivered: list[Delivered] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def add(self, later: Report) -> None:
        self.delivered += later.delivered
        self.failed += later.failed
        self.attempts += later.attempts


@dataclass(frozen=True, slots=True)
class Turn:
    """Messages to deliver; when there are none, the time before which there will be none (None: until some land)."""

    messages: Sequence[Message] = ()
    next_at: datetime | None = None


class Outbox:
    """The outbox of a database. One at a time takes from it, whatever the process; the others find nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owner = secrets.token_hex(8)
        self._unwritten = Report()

    def turn(self, report: Report, *, now: datetime, max_bytes: int) -> Turn:
        """Write down what became of earlier messages and take the next, in one hold of the file.

        Takes the oldest that are due until their texts are so long, one at the least; 0 takes none. A report that
        could not be written is written with the next. `now` is UTC without saying so. Raises LocalError when the
        database cannot be had.
        """
        self._unwritten.add(report)
        with self._store.transaction(merge=False) as connection:
            _write(connection, self._unwritten, now)
            turn = self._take(connection, now, max_bytes)
        self._unwritten = Report()
        return turn

    def redrive(self) -> int:
        """Have all that is parked tried again; how many messages that are."""
        with self._store.transaction(merge=False) as connection:
            return int(fetch_one(connection, _read_sql("redrive"))[0])

    def _take(self, connection: duckdb.DuckDBPyConnection, now: datetime, max_bytes: int) -> Turn:
        lease = connection.execute("select owner, until from forwarder").fetchone()
        owner, until = lease or ("", now)
        if owner not in {"", self._owner} and until > now:
            return Turn(next_at=until)
        limits = {"now": now, "rows": TAKEN_ROWS if max_bytes else 0, "bytes": max_bytes}
        rows = connection.execute(_read_sql("take"), limits).fetchall()
        if rows and (owner != self._owner or until - now < LEASE / 2):
            connection.execute("delete from forwarder")
            connection.execute("insert into forwarder values ($1, $2)", [self._owner, now + LEASE])
        elif not rows and owner:
            connection.execute("delete from forwarder")
        if rows:
            return Turn([Message(*row) for row in rows])
        return Turn(next_at=fetch_one(connection, _read_sql("next"))[0])


def _write(connection: duckdb.DuckDBPyConnection, report: Report, now: datetime) -> None:
    if report.delivered:
        keys = [(each.message.isolate, each.message.seq) for each in report.delivered]
        span = _span(each.message for each in report.delivered)
        connection.execute(_read_sql("delivered"), span | {"keys": json.dumps(keys)})
    if report.failed:
        span = _span(each.message for each in report.failed)
        failures = json.dumps([_failure(each) for each in report.failed])
        connection.execute(_read_sql("failed"), span | {"now": now, "failures": failures})
    if results := _results(report, now):
        connection.execute(_read_sql("tell"), {"now": now, "results": json.dumps(results)})


def _span(messages: Iterable[Message]) -> dict[str, datetime]:
    landed_at = [message.landed_at for message in messages]
    return {"first": min(landed_at), "last": max(landed_at)}


def _failure(failed: Failed) -> dict[str, Any]:
    return {
        "isolate": failed.message.isolate,
        "seq": failed.message.seq,
        "error": failed.error,
        "is_refused": failed.is_refused,
        "is_parked": failed.is_parked,
        "wait_ms": round(failed.wait_s * 1000),
    }


def _results(report: Report, now: datetime) -> list[dict[str, Any]]:
    """Rows of `deliveries`."""
    landed_at: dict[str | None, list[datetime]] = {}
    for each in report.delivered:
        landed_at.setdefault(each.destination, []).append(each.message.landed_at)
    results: list[dict[str, Any]] = [
        {
            "destination": destination,
            "message_count": len(times),
            "oldest_landed_at_us": _epoch_us(min(times)),
            "lag_ms": round(sum((now - at).total_seconds() for at in times) * 1000),
        }
        for destination, times in landed_at.items()
    ]
    counts: dict[tuple[str | None, str], int] = {}
    for attempt in report.attempts:
        key = attempt.destination, attempt.error
        counts[key] = counts.get(key, 0) + attempt.message_count
    for (destination, error), count in counts.items():
        results.append({"destination": destination, "error": error, "message_count": count})
    return results


def _epoch_us(at: datetime) -> int:
    return (at.replace(tzinfo=UTC) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


@cache
def _read_sql(name: str) -> str:
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")
