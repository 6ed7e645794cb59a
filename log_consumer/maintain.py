"""`log-consumer maintain`: throws away what is too old and puts what is left in order.

Each step is a transaction, or a file that takes another's place at once, and does nothing when it is repeated: a run
that is killed is simply run again. Consumers wait while a step has the tables, and go on between two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from log_consumer.databases import Database, Lake
from log_consumer.engine import fetch_one
from log_consumer.rewrite import rewrite_file
from log_consumer.rolls import read_open_roll, roll_if_due
from log_consumer.store import Store
from log_consumer.tables import AGING, TIMES

SQL = Path(__file__).parent / "sql" / "maintain"
# A message may come again for that long: a queue keeps it for 14 days at the most, and its dead-letter queue as long.
REDELIVERY_HORIZON = timedelta(days=30)
# Of a file: how much of it has to be empty for a rewrite. Of a lake's file: how many of its rows have to be deleted.
REWRITE_SHARE = 0.25
# Rows of units that are entered anew at a time: what they take of memory is as much as a roll does.
AGED_PART = 1_000_000
# A lake's readers see what was there when they began; a file that nobody can have begun to read by then is deleted. So
# is one that a killed consumer left, when it is so old that no consumer can be about to commit it.
READERS_TIME = timedelta(days=1)


@dataclass(slots=True)
class Maintained:
    """What was done. `deleted_rows` by table; files and bytes before and after are the tables' own, and a lake's old
    files are deleted when no snapshot needs them any more.
    """

    deleted_rows: dict[str, int] = field(default_factory=dict)
    bytes_before: int = 0
    bytes_after: int = 0
    files_before: int = 1
    files_after: int = 1
    is_rewritten: bool = False
    is_rolled: bool = False
    expired_snapshots: int = 0
    deleted_files: int = 0

    def facts(self) -> dict[str, Any]:
        """As keys, for the log and for `--json`."""
        return {name: getattr(self, name) for name in self.__slots__}


def maintain(store: Store, *, retention_days: int, now: datetime, rewrite: bool = False) -> Maintained:
    """Delete what is older than so many days (0 keeps all), then merge, rewrite where it is worth it, and clean up.

    `rewrite` rewrites a file whatever it holds. `now` is UTC without saying so. Raises LocalError when the tables
    cannot be had or written; what was done by then stays done.
    """
    done = Maintained()
    with store.transaction() as connection:
        done.is_rolled = roll_if_due(connection, read_open_roll(connection), now=now)
    if store.is_lake:
        _maintain_lake(store, done, retention_days, now)
    else:
        _maintain_file(store, done, retention_days, now, rewrite=rewrite)
    return done


def describe_maintained(done: Maintained, database: Database) -> str:
    """What was done, in lines for a person."""
    deleted = ", ".join(f"{count:,} of {table}" for table, count in done.deleted_rows.items())
    size = f"{done.bytes_before / 1e6:,.1f} MB before, {done.bytes_after / 1e6:,.1f} MB after"
    lines = [f"rows deleted for their age: {deleted or 'none'}"]
    if isinstance(database, Lake):
        lines += [
            f"{database}: {size}; {done.files_before:,} files before, {done.files_after:,} after",
            f"{done.expired_snapshots:,} snapshots expired, {done.deleted_files:,} old files deleted",
        ]
    else:
        lines += [f"{database}: {size}{', written anew' if done.is_rewritten else ''}"]
    return "".join(f"{line}\n" for line in lines)


def delete_old_rows(connection: duckdb.DuckDBPyConnection, *, before: datetime, now: datetime) -> dict[str, int]:
    """Delete what is older than `before`, in the caller's transaction; rows by table, where there were any."""
    deleted = {
        table: _execute(connection, f"delete from {table} where {TIMES[table]} < $before", {"before": before})  # noqa: S608 - ours
        for table in AGING
    }
    deleted["exposed_units"] = _age_units(connection, before=before)
    deleted["outbox"] = _execute(connection, _read_sql("outbox"), {"before": before})
    ledger_before = min(before, now - REDELIVERY_HORIZON)
    deleted["ledger"] = _execute(connection, _read_sql("ledger"), {"before": ledger_before})
    return {table: count for table, count in deleted.items() if count}


def _age_units(connection: duckdb.DuckDBPyConnection, *, before: datetime) -> int:
    """Know units by the exposures that are left of them; by how many rows there are fewer."""
    aged_count, count_before = fetch_one(
        connection,
        "select count(*) filter (first_applied_at < $before), count(*) from exposed_units",
        {"before": before},
    )
    parts = math.ceil(aged_count / AGED_PART)
    for part in range(parts):
        connection.execute(_read_sql("aged_units"), {"before": before, "part": part, "parts": parts})
        connection.execute(_read_sql("leave"))
        connection.execute(_read_sql("enter_anew"))
        connection.execute("drop table temp.aged_units")
    (count_after,) = fetch_one(connection, "select count(*) from exposed_units")
    return int(count_before - count_after)


def _maintain_file(store: Store, done: Maintained, retention_days: int, now: datetime, *, rewrite: bool) -> None:
    with store.transaction() as connection:
        done.bytes_before, _ = _measure_file(connection)
        # Row groups that deletes have thinned out are merged by the commit, as many as there are.
        connection.execute("reset max_vacuum_tasks")
        if retention_days:
            done.deleted_rows = delete_old_rows(connection, before=now - timedelta(days=retention_days), now=now)
    with store.hold() as connection:
        done.bytes_after, empty_bytes = _measure_file(connection)
        done.is_rewritten = rewrite or empty_bytes > REWRITE_SHARE * done.bytes_after
        if done.is_rewritten:
            done.bytes_after = rewrite_file(connection, str(store.database))


def _maintain_lake(store: Store, done: Maintained, retention_days: int, now: datetime) -> None:
    with store.transaction() as connection:
        done.files_before, done.bytes_before = _measure_lake(connection)
        if retention_days:
            done.deleted_rows = delete_old_rows(connection, before=now - timedelta(days=retention_days), now=now)
    with store.hold() as connection:
        found = "select table_name from ducklake_table_info('store') where file_count > 1 or delete_file_count > 0"
        tables = [str(name) for (name,) in connection.execute(found).fetchall()]
    for table in tables:
        with store.hold() as connection:
            # Rows are fetched, for a lake is only changed with the last one.
            connection.execute(
                f"call ducklake_rewrite_data_files('store', $1, delete_threshold => {REWRITE_SHARE})", [table]
            ).fetchall()
            connection.execute("call ducklake_merge_adjacent_files('store', $1)", [table]).fetchall()
    clean_lake(store, done, older_than=now - READERS_TIME)


def clean_lake(store: Store, done: Maintained, *, older_than: datetime) -> None:
    """Forget snapshots from before then, and delete the files that only they needed, or nobody."""
    at = f"older_than => timestamptz '{older_than.isoformat()}+00'"
    with store.hold() as connection:
        done.expired_snapshots = _count(connection, f"ducklake_expire_snapshots('store', {at})")
        done.deleted_files = _count(connection, f"ducklake_cleanup_old_files('store', {at})")
        done.deleted_files += _count(connection, f"ducklake_delete_orphaned_files('store', {at})")
        done.files_after, done.bytes_after = _measure_lake(connection)


def _measure_file(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Bytes of the file, and how many of them hold nothing."""
    total, free = fetch_one(
        connection,
        "select total_blocks * block_size, free_blocks * block_size from pragma_database_size() "
        "where database_name = 'store'",
    )
    return int(total), int(free)


def _measure_lake(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Files and bytes that the newest snapshot needs."""
    files, size = fetch_one(
        connection,
        "select coalesce(sum(file_count + delete_file_count), 0), "
        "coalesce(sum(file_size_bytes + delete_file_size_bytes), 0) from ducklake_table_info('store')",
    )
    return int(files), int(size)


def _count(connection: duckdb.DuckDBPyConnection, function: str) -> int:
    return int(fetch_one(connection, f"select count(*) from {function}")[0])  # noqa: S608 - ours


def _execute(connection: duckdb.DuckDBPyConnection, statement: str, parameters: Mapping[str, Any]) -> int:
    """Run a statement that deletes; how many rows it deleted."""
    row = connection.execute(statement, dict(parameters)).fetchone()
    return int(row[0]) if row else 0


def _read_sql(name: str) -> str:
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")
