"""The DuckDB file: who holds it, for how long, and what shape its tables have.

DuckDB lets one process write, and nobody read meanwhile. So the file is attached to a working connection in memory for
one transaction and let go again, so that analysts get in: what a batch is decoded in needs no file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb

from flagedge.errors import FlagedgeError, LocalError

SQL = Path(__file__).parent / "sql"
CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # Nothing is fetched from a network behind the operator's back.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # A consumer is given one core.
    "threads": 1,
    # A commit writes the file itself, and no log beside it: that would write every row twice.
    "checkpoint_threshold": "0B",
    "auto_checkpoint_skip_wal_threshold": 0,
    # Rows go to the file as soon as a row group is full, and its memory is used again.
    "write_buffer_row_group_count": 1,
    "block_allocator_memory": "128MB",
}
# The oldest format that compresses strings by dictionary and FSST at once, which halves the commit and stores a fifth
# less. DuckDB 1.3 and newer read it.
STORAGE_VERSION = "v1.3.0"
# How many row groups of a table a commit may merge at the most: less than a second's work.
MERGED_ROW_GROUPS = 4
LOCK_HELD = "Could not set lock"
HINTS = {
    "open": "DATABASE names a DuckDB file, in a directory that exists",
    "write": "Nothing of this batch was acked; it is delivered again",
}


class Store:
    """A DuckDB file that is written in short holds; `connection` works in memory while the file is let go.

    `lock_wait_s` bounds the wait for a file that another process holds.
    """

    def __init__(
        self,
        path: str,
        *,
        lock_wait_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.path = path
        self.connection = duckdb.connect(":memory:", config=CONFIG)
        self._lock_wait_s = lock_wait_s
        self._clock = clock
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    @contextmanager
    def transaction(self, *, merge: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hold the file; all that is written inside is committed, or none of it.

        `merge` lets the commit merge row groups that are not full, which rewrites them: right for small batches, which
        leave many, and too dear while there is a backlog, whose batches are large. Raises LocalError when the file
        cannot be had or written.
        """
        self._attach()
        with translate_errors(self.path, "write"):
            try:
                self.connection.execute(f"set max_vacuum_tasks = {MERGED_ROW_GROUPS if merge else 0}")
                self.connection.execute("begin")
                yield self.connection
                self.connection.execute("commit")
            except BaseException:
                self._give_up()
                raise
            self._detach()

    def _attach(self) -> None:
        quoted = self.path.replace("'", "''")
        with translate_errors(self.path, "open"):
            wait_for_lock(
                lambda: self.connection.execute(
                    f"attach '{quoted}' as store (type duckdb, storage_version '{STORAGE_VERSION}')"
                ),
                wait_s=self._lock_wait_s,
                clock=self._clock,
                sleep=self._sleep,
            )
            try:
                self.connection.execute("use store")
                migrate(self.connection)
            except BaseException:
                self._give_up()
                raise

    def _detach(self) -> None:
        self.connection.execute("use memory")
        self.connection.execute("detach store")

    def _give_up(self) -> None:
        # A commit that failed has ended the transaction, and one that could not write has cut off the file.
        for end in (lambda: self.connection.execute("rollback"), self._detach):
            with suppress(duckdb.Error):
                end()


def migrate(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Bring the current database to the newest shape; returns the names of what was applied, in order.

    Safe to repeat: a migration's record is written in the same transaction as its change. Views are part of the
    record, by their text: one that changed is made anew.
    """
    connection.execute(
        "create table if not exists migrations (name varchar primary key, text_hash varchar, applied_at timestamp)"
    )
    applied = dict(connection.execute("select name, text_hash from migrations").fetchall())
    files = [*sorted((SQL / "migrations").glob("*.sql")), *sorted((SQL / "views").glob("*.sql"))]
    known = {_name(file) for file in files}
    if unknown := sorted(name for name in applied if name.startswith("migrations/") and name not in known):
        raise LocalError(f"the database has {unknown[-1]}, which this version does not know", hint="Update flagedge")
    done = []
    for file in files:
        name, text = _name(file), file.read_text(encoding="utf-8")
        text_hash = _hash(connection, text)
        if name not in applied or (file.parent.name == "views" and applied[name] != text_hash):
            _apply(connection, name, text, text_hash)
            done.append(name)
    return done


def wait_for_lock(
    attempt: Callable[[], object], *, wait_s: float, clock: Callable[[], float], sleep: Callable[[float], object]
) -> None:
    """Call `attempt` until it no longer fails on another process' lock, for at most `wait_s`; then let it fail."""
    deadline_s, pause_s = clock() + wait_s, 0.005
    while True:
        try:
            attempt()
        except duckdb.IOException as exc:
            if LOCK_HELD not in str(exc) or clock() >= deadline_s:
                raise
        else:
            return
        sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)


@contextmanager
def translate_errors(path: str, verb: str) -> Iterator[None]:
    """DuckDB's errors as one LocalError that names the file and what to do; `verb` is a key of HINTS."""
    try:
        yield
    except FlagedgeError:
        raise
    except duckdb.Error as exc:
        said = one_line(exc)
        if LOCK_HELD in said:
            hint = "Close what holds it (a DuckDB shell? another log-consumer?) and run this again"
            raise LocalError(f"{path} is held by another process", hint=hint) from exc
        raise LocalError(f"cannot {verb} {path}: {said}", hint=HINTS[verb]) from exc


def one_line(exc: BaseException) -> str:
    """The first paragraph of an error, on one line."""
    return " ".join(str(exc).split("\n\n", 1)[0].split()).rstrip(".")


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def _hash(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    row = connection.execute("select sha256($1)", [text]).fetchone()
    assert row is not None
    return str(row[0])


def _apply(connection: duckdb.DuckDBPyConnection, name: str, text: str, text_hash: str) -> None:
    connection.execute("begin")
    try:
        connection.execute(text)
        connection.execute("insert or replace into migrations values ($1, $2, now()::timestamp)", [name, text_hash])
        connection.execute("commit")
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has ended the transaction
            connection.execute("rollback")
        raise
