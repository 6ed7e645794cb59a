"""Loads a batch: the raw answers of pulls go to DuckDB as parameters and are decoded there, all messages at once.

    stage.sql  decode.sql  judge….sql           outside the transaction, in temporary tables
    claim.sql  reject.sql  FORM/TABLE.sql …     inside it: ledger, rejected messages, rows

A message is of one of three forms, which are folders of statements: flag_log and record are ours
(docs/log-format.md), upstream is what the official Worker writes. Every statement is planned anew for the batch that
it runs on, although planning costs 30 ms a batch: a prepared plan keeps trusting the statistics of the batch that it
was made for, and has been seen to lose rows of later ones without an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from flagedge.errors import DecodeError
from log_consumer.engine import DATA_ERRORS, fetch_one
from log_consumer.privacy import STORE_PLAIN, KeyPolicy, use_policy
from log_consumer.rolls import read_open_roll

SQL = Path(__file__).parent / "sql"
JUDGES = {None: "judge", "flag_log": "judge", "upstream": "judge_upstream", "record": "judge_records"}
# More at once costs fewer plans, 6 ms each, and more memory, whose first touch costs as much as the decoding.
DECODED_BYTES = 10_000_000
FORMS = ("flag_log", "upstream", "record")
ROW_TABLES = (
    "exposures",
    "fallthrough_exposures",
    "resolve_counts",
    "context_schemas",
    "telemetry",
    "deployments",
    "flag_changes",
    "allocations",
)
# Those whose rows are counted twice, by what wrote them and by held.sql.
HELD = ("exposures", "fallthrough_exposures", "resolve_counts", "deployments", "flag_changes", "allocations")


@dataclass(frozen=True, slots=True)
class Batch:
    """What pulls brought, decoded and waiting in temporary tables."""

    answers: tuple[str, ...]
    lease_ids: tuple[str, ...]  # in the order of the answers; every message has one
    forms: tuple[str, ...]  # of its messages
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


def make_stage(connection: duckdb.DuckDBPyConnection, policy: KeyPolicy = STORE_PLAIN) -> None:
    """Make what a batch passes through, on a new connection; `policy` says what its rows hold of a targeting key."""
    use_policy(connection, policy)
    for statement in connection.extract_statements(read_sql("stage")):
        connection.execute(statement)


def decode(
    connection: duckdb.DuckDBPyConnection, answers: Sequence[str], *, now: datetime, keeps_text: bool = False
) -> Batch:
    """Decode the answers of one or more pulls into the temporary tables, over what an earlier batch left there.

    `keeps_text` keeps the texts of messages too, for the outbox. Raises DecodeError when an answer is no list of
    messages with ids and leases; a bad message is only marked.
    """
    clear_stage(connection)
    try:
        for group in _groups(answers):
            execute(connection, "decode", answers=group, now=now, keeps_text=keeps_text)
        found = connection.execute("select distinct form from decoded").fetchall()
        for judge in sorted({JUDGES[form] for (form,) in found}):
            execute(connection, judge)
    except DATA_ERRORS as exc:
        raise DecodeError("the queue's answer to a pull cannot be decoded", hint="Nothing was acked") from exc
    forms = tuple(form for form in FORMS if (form,) in found)
    return _read_batch(connection, answers, forms, now)


def blame(connection: duckdb.DuckDBPyConnection, answers: Sequence[str], *, reason: str, now: datetime) -> Batch:
    """Decode nothing of the messages: load() rejects them, for a reason that decode() could not see.

    Raises DecodeError as decode() does.
    """
    clear_stage(connection)
    try:
        execute(connection, "blame", answers=dict(enumerate(answers)), reason=reason)
    except DATA_ERRORS as exc:
        raise DecodeError("the queue's answer to a pull is not JSON", hint="Nothing was acked") from exc
    return _read_batch(connection, answers, (), now)


def _read_batch(
    connection: duckdb.DuckDBPyConnection, answers: Sequence[str], forms: tuple[str, ...], now: datetime
) -> Batch:
    lease_ids, nameless_count, rejected_count, message_bytes = fetch_one(
        connection,
        "select coalesce(list(lease_id order by delivery), []), "
        "count(*) filter (message_id is null or lease_id is null), count(reason), coalesce(sum(bytes), 0)::bigint "
        "from judged",
    )
    if nameless_count:
        raise DecodeError("the queue's answer to a pull has no messages with ids", hint="Nothing was acked")
    return Batch(tuple(answers), tuple(lease_ids), forms, rejected_count, message_bytes, landed_at=now)


def load(
    connection: duckdb.DuckDBPyConnection, batch: Batch, *, is_lake: bool = False, fills_outbox: bool = False
) -> Loaded:
    """Write the decoded batch; to be called inside a transaction. Loading a message again only counts it.

    Raises DecodeError, for the transaction to be rolled back, when other rows were written than the messages hold.
    """
    keys = execute(connection, "claim_lake" if is_lake else "claim", landed_at=batch.landed_at).fetchall()
    claimed = json.dumps(keys)
    if is_lake:
        execute(connection, "enter_lake", claimed=claimed, landed_at=batch.landed_at)
    duplicate_count = batch.message_count - batch.rejected_count - len(keys)
    if batch.rejected_count:
        execute(connection, "reject", answers=dict(enumerate(batch.answers)), landed_at=batch.landed_at)
    if duplicate_count:
        execute(connection, "count_duplicates", claimed=claimed)
    if duplicate_count or batch.rejected_count:
        execute(connection, "keep_claimed", claimed=claimed)
    if fills_outbox:
        execute(connection, "../outbox/fill", landed_at=batch.landed_at)
    rows, roll = dict.fromkeys(ROW_TABLES, 0), read_open_roll(connection)
    for form in batch.forms:
        for table in tables_of(form):
            written = execute(connection, f"{form}/{table}", landed_at=batch.landed_at, roll=roll).fetchone()
            rows[table] += int(written[0]) if written else 0
    _verify(connection, rows, loaded_count=len(keys))
    return Loaded(rows, len(keys), duplicate_count=duplicate_count, rejected_count=batch.rejected_count)


def _groups(answers: Sequence[str]) -> Iterator[dict[int, str]]:
    """Numbered answers that are decoded at once: a step of a statement has the texts of 2,048 messages in memory."""
    group: dict[int, str] = {}
    for number, answer in enumerate(answers):
        if group and sum(map(len, group.values())) + len(answer) > DECODED_BYTES:
            yield group
            group = {}
        group[number] = answer
    yield group


def clear_stage(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty the temporary tables. Truncating alone keeps their memory; the checkpoint gives it back."""
    for table in ("decoded", "judged"):
        connection.execute(f"truncate {table}")
    connection.execute("checkpoint temp")


def _verify(connection: duckdb.DuckDBPyConnection, rows: dict[str, int], *, loaded_count: int) -> None:
    """Hold what was written against what the messages hold, by a statement that shares nothing with the writing."""
    held = fetch_one(connection, read_sql("held"))
    written = (loaded_count, *(rows[table] for table in HELD))
    if held != written:
        raise DecodeError(f"messages and rows held {held} but {written} were written", hint="Nothing was acked")


def execute(connection: duckdb.DuckDBPyConnection, name: str, **values: Any) -> duckdb.DuckDBPyConnection:
    """Run a file with those of `values` that it names; `answers` stands for its numbered rows."""
    statement = read_sql(name)
    parameters = {key: value for key, value in values.items() if f"${key}" in statement}
    if answers := parameters.pop("answers", {}):
        # One list as the parameter would be copied string by string, at twice the cost.
        rows = ", ".join(f"({number}, $answer_{number})" for number in answers)
        statement = statement.replace("(values $answers)", f"(values {rows})")
        parameters |= {f"answer_{number}": answer for number, answer in answers.items()}
    return connection.execute(statement, parameters)


@cache
def tables_of(form: str) -> tuple[str, ...]:
    return tuple(table for table in ROW_TABLES if (SQL / "load" / form / f"{table}.sql").exists())


@cache
def read_sql(name: str) -> str:
    return (SQL / "load" / f"{name}.sql").read_text(encoding="utf-8")
