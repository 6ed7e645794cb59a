"""Loads a batch: the raw answers of pulls go to DuckDB as parameters and are decoded there, all messages at once.

    stage.sql  decode.sql  judge.sql          outside the transaction, in temporary tables
    claim.sql  reject.sql  exposures.sql …    inside it: ledger, rejected messages, rows

Source of the message: docs/log-format.md. Every statement is planned anew for the batch that it runs on, although
planning costs 30 ms a batch: a prepared plan keeps trusting the statistics of the batch that it was made for,
and has been seen to lose rows of later ones without an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from flagedge.errors import DecodeError

SQL = Path(__file__).parent / "sql"
STAGES = ("decode", "judge")
ROW_TABLES = ("exposures", "fallthrough_exposures", "resolve_counts", "context_schemas", "telemetry")


@dataclass(frozen=True, slots=True)
class Batch:
    """What pulls brought, decoded and waiting in temporary tables."""

    lease_ids: tuple[str, ...]  # in the order of the answers; every message has one
    rejected_count: int
    message_bytes: int
    landed_at: datetime

    @property
    def message_count(self) -> int:
        return len(self.lease_ids)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a batch changed: rows by table, and messages by fate: loaded + duplicate + rejected = pulled."""

    rows: dict[str, int]
    loaded_count: int
    duplicate_count: int
    rejected_count: int


def make_stage(connection: duckdb.DuckDBPyConnection) -> None:
    """Make what a batch passes through, on a new connection."""
    for statement in connection.extract_statements(read_sql("stage")):
        connection.execute(statement)


def decode(connection: duckdb.DuckDBPyConnection, answers: Sequence[str], *, now: datetime) -> Batch:
    """Decode the answers of one or more pulls into the temporary tables, over what an earlier batch left there.

    Raises DecodeError when one is no list of messages with ids and leases; a bad message is only marked.
    """
    clear_stage(connection)
    # One list as the parameter would be copied string by string, at twice the cost.
    rows = ", ".join(f"({number}, ${number + 1})" for number in range(len(answers)))
    connection.execute(f"insert into answers values {rows}", list(answers))  # noqa: S608 - names of parameters
    try:
        for name in STAGES:
            connection.execute(read_sql(name))
    except (duckdb.InvalidInputException, duckdb.ConversionException) as exc:
        raise DecodeError("the queue's answer to a pull is not JSON", hint="Nothing was acked") from exc
    lease_ids, nameless_count, rejected_count, message_bytes = _fetch_one(
        connection,
        "select coalesce(list(lease_id order by delivery), []), "
        "count(*) filter (message_id is null or lease_id is null), count(reason), coalesce(sum(bytes), 0)::bigint "
        "from judged",
    )
    if nameless_count:
        raise DecodeError("the queue's answer to a pull has no messages with ids", hint="Nothing was acked")
    return Batch(tuple(lease_ids), rejected_count=rejected_count, message_bytes=message_bytes, landed_at=now)


def load(connection: duckdb.DuckDBPyConnection, batch: Batch) -> Loaded:
    """Write the decoded batch; to be called inside a transaction. Loading a message again only counts it.

    Raises DecodeError, for the transaction to be rolled back, when other rows were written than the messages hold.
    """
    claimed = connection.execute(read_sql("claim"), [batch.landed_at]).fetchall()
    duplicate_count = batch.message_count - batch.rejected_count - len(claimed)
    if batch.rejected_count:
        connection.execute(read_sql("reject"), [batch.landed_at])
    if duplicate_count:
        connection.execute(read_sql("count_duplicates"), [json.dumps(claimed)])
    if duplicate_count or batch.rejected_count:
        connection.execute(read_sql("keep_claimed"), [json.dumps(claimed)])
    rows = {name: int(_fetch_one(connection, read_sql(name))[0]) for name in ROW_TABLES}
    _verify(connection, rows, loaded_count=len(claimed))
    return Loaded(rows, len(claimed), duplicate_count=duplicate_count, rejected_count=batch.rejected_count)


def clear_stage(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty the temporary tables. Truncating alone keeps their memory; the checkpoint gives it back."""
    for table in ("answers", "decoded", "judged"):
        connection.execute(f"truncate {table}")
    connection.execute("checkpoint temp")


def _verify(connection: duckdb.DuckDBPyConnection, rows: dict[str, int], *, loaded_count: int) -> None:
    """Hold what was written against what the messages hold, by a statement that shares nothing with the writing."""
    held = _fetch_one(
        connection,
        "select count(*), coalesce(sum(len(exposures.outcome)), 0), "
        "coalesce(sum(len(fallthroughs.outcome)), 0), coalesce(sum(len(counts.outcome)), 0) "
        "from decoded",
    )
    written = (loaded_count, rows["exposures"], rows["fallthrough_exposures"], rows["resolve_counts"])
    if held != written:
        raise DecodeError(f"messages and rows held {held} but {written} were written", hint="Nothing was acked")


def _fetch_one(connection: duckdb.DuckDBPyConnection, statement: str) -> tuple[Any, ...]:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return row


@cache
def read_sql(name: str) -> str:
    return (SQL / "load" / f"{name}.sql").read_text(encoding="utf-8")
