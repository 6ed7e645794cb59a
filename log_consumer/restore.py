"""`log-consumer restore`: what `log-consumer export` wrote, into a database without rows.

All of it is one transaction, so a restore that is killed is simply made again. The ledger comes with the rows: what the
queue delivers again is known. What still waited for Confidence is not exported, so it does not come back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb

from flagedge.errors import LocalError
from log_consumer.databases import S3
from log_consumer.engine import one_line, quote
from log_consumer.export import FILE
from log_consumer.rolls import read_open_roll, roll_if_due
from log_consumer.s3 import is_s3, load_s3, sign_in_to_s3
from log_consumer.store import Store
from log_consumer.tables import TIMES

# Rolled as they come, so after what says how units are shared out.
ROLLED = ("fallthrough_exposures", "exposures")
ORDER = (*(name for name in TIMES if name not in ROLLED), *ROLLED)


@dataclass(frozen=True, slots=True)
class Restored:
    """Rows by table."""

    rows: dict[str, int] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """As keys, for `--json`."""
        return {"rows": self.rows}


def restore(store: Store, source: str, *, now: datetime, s3: S3 | None = None) -> Restored:
    """Read every table's files below `source`, a folder or `s3://BUCKET/PREFIX`. `now` is UTC without saying so.

    Raises LocalError, with nothing written, when the database has rows, or `source` none, or files that do not fit.
    """
    source = source.rstrip("/")
    if is_s3(source):
        load_s3(store.connection)
        sign_in_to_s3(store.connection, s3 or S3())
    files = {name: _list_files(store.connection, f"{source}/{name}/day=*/{FILE}") for name in ORDER}
    if not any(files.values()):
        hint = "--parquet names a folder, or s3://BUCKET/PREFIX, that `log-consumer export` wrote"
        raise LocalError(f"there are no tables in {source}", hint=hint)
    with store.transaction(merge=False) as connection:
        _check_empty(store, connection)
        return Restored({name: _read_table(connection, name, files[name], now=now) for name in ORDER})


def describe_restored(restored: Restored, source: str, database: object) -> str:
    text = "".join(f"{name}: {count:,} rows\n" for name, count in restored.rows.items() if count)
    return f"{text}restored from {source} into {database}\n"


def _list_files(connection: duckdb.DuckDBPyConnection, pattern: str) -> list[str]:
    try:
        return [
            str(file) for (file,) in connection.execute("select file from glob(?) order by 1", [pattern]).fetchall()
        ]
    except duckdb.Error as exc:
        raise LocalError(f"cannot list {pattern}: {one_line(exc)}") from exc


def _check_empty(store: Store, connection: duckdb.DuckDBPyConnection) -> None:
    for name in ORDER:
        if connection.execute(f"select 1 from {name} limit 1").fetchone():  # noqa: S608 - ours
            hint = "Restore into one without rows, and let no consumer drain into it before"
            raise LocalError(f"{store.database} has rows in {name} already", hint=hint)


def _read_table(connection: duckdb.DuckDBPyConnection, name: str, files: Iterable[str], *, now: datetime) -> int:
    count = 0
    for file in files:
        roll = read_open_roll(connection)
        rows = f"from read_parquet({quote(file)}, hive_partitioning = false)"
        try:
            if name in ROLLED:
                rows = _select_rolled(connection, rows, roll)
            inserted = connection.execute(f"insert into {name} by name {rows}").fetchone()
        except duckdb.Error as exc:
            hint = "Restore with the version of flagedge that exported it, or a newer one"
            raise LocalError(f"cannot read {file}: {one_line(exc)}", hint=hint) from exc
        count += int(inserted[0]) if inserted else 0
        if name in ROLLED:
            roll_if_due(connection, roll, now=now)
    return count


def _select_rolled(connection: duckdb.DuckDBPyConnection, rows: str, roll: int) -> str:
    """The rows as part of a roll. Those exported before there were rolls have when they landed from the ledger."""
    names = {str(row[0]) for row in connection.execute(f"describe {rows}").fetchall()}
    if "landed_at" in names:
        return f"select * replace ({roll} as roll) {rows}"
    landed = "left join ledger using (isolate, seq)"
    return f"select each.*, ledger.landed_at, {roll} as roll from ({rows}) as each {landed}"  # noqa: S608 - ours
