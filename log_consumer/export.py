"""`log-consumer export`: tables as Parquet files, for engines that read neither DuckDB files nor lakes.

    DIR/exposures/day=2026-11-21/data.parquet     one file a day, by the table's time (tables.py)
    DIR/exposures_by_variant/data.parquet         a view, as it is now

A day's file takes the place of an older one at once, so a reader sees one or the other, and an export that is killed is
simply made again. Files of days that have no rows any more are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

from flagedge.errors import LocalError, SettingsError
from log_consumer.databases import S3
from log_consumer.engine import one_line, quote
from log_consumer.rewrite import sync_path
from log_consumer.s3 import is_s3, load_s3, sign_in_to_s3
from log_consumer.store import Reader
from log_consumer.tables import TIMES

FILE = "data.parquet"
NO_DAY = "__HIVE_DEFAULT_PARTITION__"


@dataclass(slots=True)
class Exported:
    """Rows by table or view, and how many files they are in."""

    rows: dict[str, int] = field(default_factory=dict)
    file_count: int = 0

    def facts(self) -> dict[str, Any]:
        """As keys, for `--json`."""
        return {"rows": self.rows, "file_count": self.file_count}


def export(
    reader: Reader, target: str, *, tables: Sequence[str] = (), since: date | None = None, s3: S3 | None = None
) -> Exported:
    """Write the tables and views (all tables when none is named) below `target`, a folder or `s3://BUCKET/PREFIX`.

    `since` leaves out the days before it; views are whole. Raises SettingsError for a name that is neither, LocalError
    when the database cannot be had or a file not be written; what was written by then is whole.
    """
    names = tuple(tables) or tuple(TIMES)
    target = target.rstrip("/")
    if is_s3(target):
        load_s3(reader.connection)
        sign_in_to_s3(reader.connection, s3 or S3())
    with reader.look() as connection:
        _check(connection, names)
    exported = Exported()
    for name in names:
        exported.rows[name] = 0
        for folder, statement, values in _list_parts(reader, name, since):
            exported.rows[name] += _write(reader, statement, values, f"{target}/{folder}")
            exported.file_count += 1
    return exported


def _check(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    views = "select view_name from duckdb_views() where database_name = 'store' and not internal"
    known = {*TIMES, *(str(name) for (name,) in connection.execute(views).fetchall())}
    if unknown := sorted(set(names) - known):
        problem = f"--tables names {unknown[0]}: there are {', '.join([*TIMES, *sorted(known - TIMES.keys())])}"
        raise SettingsError([problem])


def _list_parts(reader: Reader, name: str, since: date | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Folder, statement and its values, for each file."""
    if name not in TIMES:
        yield name, f"from {name}", {}
        return
    time = TIMES[name]
    with reader.look() as connection:
        found = connection.execute(f"select distinct {time}::date from {name} order by 1").fetchall()  # noqa: S608 - ours
    for (day,) in found:
        if day is None:
            yield f"{name}/day={NO_DAY}", f"from {name} where {time} is null", {}
        elif since is None or day >= since:
            # A range, and no cast: a cast would read every file.
            within = f"from {name} where {time} >= $first and {time} < $next"
            yield f"{name}/day={day}", within, {"first": day, "next": day + timedelta(days=1)}


def _write(reader: Reader, statement: str, values: dict[str, Any], folder: str) -> int:
    """Write one file; its rows. An object of S3 is there when it is whole, a file when it is given its name."""
    path = f"{folder}/{FILE}" if is_s3(folder) else f"{folder}/.{FILE}"
    try:
        if not is_s3(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
        with reader.look() as connection:
            row = connection.execute(f"copy ({statement}) to {quote(path)} (format parquet, compression zstd)", values)
            count = row.fetchone()
        if not is_s3(folder):
            sync_path(Path(path))
            Path(path).replace(Path(folder) / FILE)
    except (duckdb.Error, OSError) as exc:
        hint = "--parquet names a folder, or s3://BUCKET/PREFIX, that may be written to"
        raise LocalError(f"cannot write {folder}/{FILE}: {one_line(exc)}", hint=hint) from exc
    return int(count[0]) if count else 0
