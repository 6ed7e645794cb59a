"""The DuckDB file: who holds it, for how long, and what shape its tables have.

DuckDB lets one process write, and nobody read meanwhile. So the file is attached to a working connection in memory
for a short hold and let go again, so that analysts get in. Attaching for every batch would cost three times the batch
(the file is checkpointed each time it is let go: 50 to 80 ms).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb

from flagedge.errors import FlagedgeError, LocalError

SQL = Path(__file__).parent / "sql"
# Nothing is fetched from a network behind the operator's back; a batch is too small for a second thread.
CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "threads": 1,
}
# The log of a hold is folded into the file when it is let go; doing so every 16 MB (the default) doubles the cost.
CHECKPOINT_THRESHOLD = "1GB"
LOCK_HELD = "Could not set lock"
HINTS = {
    "open": "DATABASE names a DuckDB file, in a directory that exists",
    "write": "Nothing of this batch was acked; it is delivered again",
    "close": "What was acked is safe in the file's log; the next run folds it in",
}


class Store:
    """A DuckDB file that is written in short holds; `connection` works in memory while the file is let go.

    `lock_wait_s` bounds the wait for a file that another process holds, `hold_s` how long batches may keep it in a
    row, `pause_s` is the gap after that.
    """

    def __init__(
        self,
        path: str,
        *,
        lock_wait_s: float = 60.0,
        hold_s: float = 1.0,
        pause_s: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = path
        self.connection = duckdb.connect(":memory:", config=CONFIG)
        self.connection.execute(f"set checkpoint_threshold = '{CHECKPOINT_THRESHOLD}'")
        self._lock_wait_s = lock_wait_s
        self._hold_s = hold_s
        self._pause_s = pause_s
        self._clock = clock
        self._sleep = sleep
        self._attached_at_s: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except LocalError:
            if exc is None:  # else what is already on its way says more
                raise
        finally:
            self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """All that is written inside is committed, or none of it; a hold that has lasted long enough ends first.

        Raises LocalError when the file cannot be had or written.
        """
        self._attach()
        with translate_errors(self.path, "write"):
            self.connection.execute("begin")
            try:
                yield self.connection
                self.connection.execute("commit")
            except BaseException:
                self._roll_back()
                raise

    def release(self) -> None:
        """Let go of the file, if it is held: its log is folded in and other processes get at it."""
        if self._attached_at_s is None:
            return
        self._attached_at_s = None
        with translate_errors(self.path, "close"):
            self.connection.execute("use memory")
            self.connection.execute("detach store")

    def release_when_due(self) -> bool:
        """Let go of the file once batches have kept it for the length of a hold, and pause so that others get in."""
        if self._attached_at_s is None or self._clock() - self._attached_at_s < self._hold_s:
            return False
        self.release()
        self._sleep(self._pause_s)
        return True

    def _attach(self) -> None:
        if self._attached_at_s is not None:
            return
        quoted = self.path.replace("'", "''")
        with translate_errors(self.path, "open"):
            wait_for_lock(
                lambda: self.connection.execute(f"attach '{quoted}' as store (type duckdb)"),
                wait_s=self._lock_wait_s,
                clock=self._clock,
                sleep=self._sleep,
            )
            self._attached_at_s = self._clock()
            try:
                self.connection.execute("use store")
                migrate(self.connection)
            except BaseException:
                self.release()
                raise

    def _roll_back(self) -> None:
        try:
            self.connection.execute("rollback")
        except duckdb.Error:
            # A failed commit has ended the transaction already.
            return


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
    attempt: Callable[[], object], *, wait_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
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
        connection.execute("rollback")
        raise
