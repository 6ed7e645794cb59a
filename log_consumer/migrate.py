"""Brings a database to the newest shape: numbered migrations, then macros and views, each recorded by name.

`0003_keys.file.sql` is for files alone, `0003_partitions.lake.sql` for lakes; all others are for both.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from hashlib import sha256
from pathlib import Path

import duckdb

from flagedge.errors import LocalError

SQL = Path(__file__).parent / "sql"
KINDS = ("file", "lake")


@dataclass(frozen=True, slots=True)
class _Script:
    """A file of SQL. Migrations are applied once; what is repeatable, macros and views, when its text is another."""

    name: str
    text: str
    text_hash: str

    @property
    def is_repeatable(self) -> bool:
        return not self.name.startswith("migrations/")


def migrate(connection: duckdb.DuckDBPyConnection, *, kind: str = "file") -> list[str]:
    """Bring the database in use to the newest shape; returns the names of what was applied, in order.

    Safe to repeat: a migration's record is written in the same transaction as its change. Macros and views are part
    of the record, by their text: one that changed is made anew. Nobody else may migrate at the same time.
    """
    connection.execute("create table if not exists migrations (name varchar, text_hash varchar, applied_at timestamp)")
    applied = dict(connection.execute("select name, text_hash from migrations").fetchall())
    scripts = _read_scripts(SQL)
    known = {script.name for script in scripts}
    if unknown := sorted(name for name in applied if name.startswith("migrations/") and name not in known):
        raise LocalError(f"the database has {unknown[-1]}, which this version does not know", hint="Update flagedge")
    done = []
    for script in scripts:
        is_ours = not any(script.name.endswith(f".{other}") for other in KINDS if other != kind)
        is_old = script.is_repeatable and applied.get(script.name) != script.text_hash
        if is_ours and (script.name not in applied or is_old):
            _apply(connection, script)
            done.append(script.name)
    return done


@cache
def _read_scripts(folder: Path) -> tuple[_Script, ...]:
    """All of them in the order in which they are applied; read once, for a consumer migrates before every batch."""
    migrations, macros = (sorted((folder / kind).glob("*.sql")) for kind in ("migrations", "macros"))
    scripts = []
    for file in (*migrations, *macros, *_list_views(folder)):
        text = file.read_text(encoding="utf-8")
        scripts.append(_Script(f"{file.parent.name}/{file.stem}", text, sha256(text.encode()).hexdigest()))
    return tuple(scripts)


def _list_views(folder: Path) -> list[Path]:
    """The views, each after those that it reads."""
    files = {file.stem: file for file in sorted((folder / "views").glob("*.sql"))}
    words = {
        name: set(re.findall(r"\w+", re.sub(r"--.*", "", file.read_text("utf-8")))) for name, file in files.items()
    }
    order = TopologicalSorter({name: (words[name] & files.keys()) - {name} for name in files})
    return [files[name] for name in order.static_order()]


def _apply(connection: duckdb.DuckDBPyConnection, script: _Script) -> None:
    connection.execute("begin")
    try:
        connection.execute(script.text)
        connection.execute("delete from migrations where name = $1", [script.name])
        connection.execute("insert into migrations values ($1, $2, now()::timestamp)", [script.name, script.text_hash])
        connection.execute("commit")
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has ended the transaction
            connection.execute("rollback")
        raise
