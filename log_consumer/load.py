"""Loads one pull: the answer's raw text goes to DuckDB as one parameter and is decoded there, all messages at once.

    stage.sql  decode.sql  judge.sql          outside the transaction, in temporary tables
    claim.sql  reject.sql  exposures.sql …    inside it: ledger, rejected messages, rows

Source of the message: docs/log-format.md. Every statement is planned anew for the batch that it runs on, although
planning costs a quarter of the whole: a prepared plan keeps trusting the statistics of the batch that it was made for,
and has been seen to lose rows of later ones without an error.
"""

from __future__ import annotations

import json
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
class Pull:
    """What a pull brought, decoded and waiting in temporary tables."""

    lease_ids: tuple[str, ...]  # in the order of the answer; every message has one
    rejected_count: int
    message_bytes: int

    @property
    def message_count(self) -> int:
        return len(self.lease_ids)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a pull changed: rows by table, and messages by fate: loaded + duplicate + rejected = pulled."""

    rows: dict[str, int]
    loaded_count: int
    duplicate_count: int
    rejected_count: int


def make_stage(connection: duckdb.DuckDBPyConnection) -> None:
    """Make what a pull passes through, on a new connection."""
    for statement in connection.extract_statements(_read_sql("stage")):
        connection.execute(statement)


def decode(connection: duckdb.DuckDBPyConnection, text: str, *, now: datetime) -> Pull:
    """Decode a pull's answer into the temporary tables, over what an earlier pull left there.

    Raises DecodeError when the answer is no list of messages with ids and leases; a bad message is only marked.
    """
    clear_stage(connection)
    connection.execute("insert into response values ($1, $2)", [text, now])
    try:
        for name in STAGES:
            connection.execute(_read_sql(name))
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
    return Pull(tuple(lease_ids), rejected_count=rejected_count, message_bytes=message_bytes)


def load(connection: duckdb.DuckDBPyConnection, pull: Pull) -> Loaded:
    """Write the decoded pull; to be called inside a transaction. Loading a message again only counts it.

    Raises DecodeError, for the transaction to be rolled back, when other rows were written than the messages hold.
    """
    claimed = connection.execute(_read_sql("claim")).fetchall()
    duplicate_count = pull.message_count - pull.rejected_count - len(claimed)
    if pull.rejected_count:
        connection.execute(_read_sql("reject"))
    if duplicate_count:
        connection.execute(_read_sql("count_duplicates"), [json.dumps(claimed)])
    if duplicate_count or pull.rejected_count:
        connection.execute(_read_sql("keep_claimed"), [json.dumps(claimed)])
    rows = {name: int(_fetch_one(connection, _read_sql(name))[0]) for name in ROW_TABLES}
    _verify(connection, rows, loaded_count=len(claimed))
    return Loaded(rows, len(claimed), duplicate_count=duplicate_count, rejected_count=pull.rejected_count)


def clear_stage(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty the temporary tables. Truncating alone keeps 1.7 MB of memory a pull; the checkpoint gives it back."""
    for table in ("response", "decoded", "judged"):
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
def _read_sql(name: str) -> str:
    return (SQL / "load" / f"{name}.sql").read_text(encoding="utf-8")
