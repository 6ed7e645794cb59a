"""Rolls: what landed is entered into exposed_units, each unit once, in one transaction.

Between rolls the view unit_exposures adds what is open, so it is exact at any moment; a roll only keeps that little. A
roll costs as much as loading its rows did, so it waits until a queue is empty: a backlog is drained first.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb

from log_consumer.engine import fetch_one

SQL = Path(__file__).parent / "sql" / "rolls"
# A roll reads the keys of exposed_units, so it waits for a part of as many rows as that has, and for enough that a
# small database never rolls. More than the most would take memory that a consumer may not have.
OPEN_SHARE = 0.05
OPEN_MIN, OPEN_MAX = 500_000, 4_000_000


def read_open_roll(connection: duckdb.DuckDBPyConnection) -> int:
    """The roll that rows which are loaded now belong to."""
    return int(fetch_one(connection, "select roll from open_roll")[0])


def roll_if_due(connection: duckdb.DuckDBPyConnection, roll: int, *, now: datetime) -> bool:
    """Roll if enough is open; whether it was done. In the transaction of whoever has the tables to himself."""
    open_count, unit_count = fetch_one(connection, _read_sql("count"), {"roll": roll})
    if open_count < min(OPEN_MAX, max(OPEN_MIN, OPEN_SHARE * unit_count)):
        return False
    roll_forward(connection, roll, now=now)
    return True


def roll_forward(connection: duckdb.DuckDBPyConnection, roll: int, *, now: datetime) -> None:
    """Enter what is open into exposed_units, and begin the next roll. `now` is UTC without saying so."""
    connection.execute(_read_sql("take"))
    (stale_since,) = fetch_one(connection, "select min(first_applied_at) from rolled where is_stale")
    if stale_since is not None:
        connection.execute(_read_sql("delete"), {"since": stale_since})
    connection.execute(_read_sql("enter"))
    connection.execute(_read_sql("close"), {"roll": roll, "now": now})
    connection.execute("drop table temp.rolled")


def _read_sql(name: str) -> str:
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")
