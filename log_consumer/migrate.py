"""Brings a database to the newest shape: numbered migrations, then macros and views, each recorded by name.

`0003_keys.file.sql` is for files alone, `0003_partitions.lake.sql` for lakes; all others are for both.
"""

from __future__ import annotations

import re
from contextlib import suppress
from graphlib import TopologicalSorter
from hashlib import sha256
from pathlib import Path

import duckdb

from flagedge.errors import LocalError

SQL = Path(__file__).parent / "sql"
KINDS = ("file", "lake")


def migrate(connection: duckdb.DuckDBPyConnection, *, kind: str = "file") -> list[str]:
    """Bring the database in use to the newest shape; returns the names of what was applied, in order.

    Safe to repeat: a migration's record is written in the same transaction as its change. Macros and views are part
    of the record, by their text: one that changed is made anew. Nobody else may migrate at the same time.
    """
    connection.execute("create table if not exists migrations (name varchar, text_hash varchar, applied_at timestamp)")
    applied = dict(connection.execute("select name, text_hash from migrations").fetchall())
    files = [*sorted((SQL / "migrations").glob("*.sql")), *sorted((SQL / "macros").glob("*.sql")), *_list_views()]
    known = {_name(file) for file in files}
    if unknown := sorted(name for name in applied if name.startswith("migrations/") and name not in known):
        raise LocalError(f"the database has {unknown[-1]}, which this version does not know", hint="Update flagedge")
    done = []
    for file in files:
        name, text = _name(file), file.read_text(encoding="utf-8")
        text_hash = sha256(text.encode()).hexdigest()
        is_ours = not any(name.endswith(f".{other}") for other in KINDS if other != kind)
        if is_ours and (name not in applied or (file.parent.name != "migrations" and applied[name] != text_hash)):
            _apply(connection, name, text, text_hash)
            done.append(name)
    return done


def _list_views() -> list[Path]:
    """The views, each after those that it reads."""
    files = {file.stem: file for file in sorted((SQL / "views").glob("*.sql"))}
    words = {
        name: set(re.findall(r"\w+", re.sub(r"--.*", "", file.read_text("utf-8")))) for name, file in files.items()
    }
    order = TopologicalSorter({name: (words[name] & files.keys()) - {name} for name in files})
    return [files[name] for name in order.static_order()]


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def _apply(connection: duckdb.DuckDBPyConnection, name: str, text: str, text_hash: str) -> None:
    connection.execute("begin")
    try:
        connection.execute(text)
        connection.execute("delete from migrations where name = $1", [name])
        connection.execute("insert into migrations values ($1, $2, now()::timestamp)", [name, text_hash])
        connection.execute("commit")
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has ended the transaction
            connection.execute("rollback")
        raise
