"""A DuckDB file as the place of the tables.

DuckDB lets one process write, and nobody read meanwhile. So the file is attached to a working connection in memory for
one transaction and let go again, so that analysts get in: what a batch is decoded in needs no file.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from flagedge.errors import LocalError
from log_consumer.engine import is_lock_held, quote, translate_errors
from log_consumer.migrate import migrate

# The oldest format that compresses strings by dictionary and FSST at once, which halves the commit and stores a fifth
# less. DuckDB 1.3 and newer read it.
STORAGE_VERSION = "v1.3.0"
# How many row groups of a table a commit may merge at the most: less than a second's work.
MERGED_ROW_GROUPS = 4
# Of a file. DuckDB itself refuses a file that another connection of the process has, and has crashed where one attached
# what another let go.
TURNS: dict[str, threading.Lock] = defaultdict(threading.Lock)


class FilePlace:
    """A file that is attached as `store` while it is held."""

    is_lake = False

    def __init__(
        self, path: str, *, lock_wait_s: float, clock: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self._path = path
        self._lock_wait_s = lock_wait_s
        self._clock = clock
        self._sleep = sleep

    def open(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Nothing is needed."""

    @contextmanager
    def hold(self, connection: duckdb.DuckDBPyConnection, *, merge: bool) -> Iterator[Callable[[], None]]:
        with self._turn():
            with translate_errors(self._path, "open"):
                self._attach(connection, f"type duckdb, storage_version '{STORAGE_VERSION}'")
            try:
                with translate_errors(self._path, "open"):
                    connection.execute("use store")
                    connection.execute(f"set max_vacuum_tasks = {MERGED_ROW_GROUPS if merge else 0}")
                    migrate(connection, kind="file")
                yield _nothing_to_verify
            except BaseException:
                with suppress(duckdb.Error):  # a commit that could not write has cut off the file.
                    _let_go(connection)
                raise
            with translate_errors(self._path, "write"):
                _let_go(connection)

    @contextmanager
    def look(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        if not Path(self._path).exists():
            raise LocalError(f"there is no database {self._path}", hint="`log-consumer drain` makes it")
        with self._turn():
            with translate_errors(self._path, "open"):
                self._attach(connection, "type duckdb, read_only")
                connection.execute("use store")
            try:
                yield
            finally:
                with suppress(duckdb.Error):  # SQL of an analyst may have closed it.
                    _let_go(connection)

    def close(self) -> None:
        """Nothing is kept."""

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for other threads of this process: the system's lock, which is a process's, does not keep them apart."""
        turn = TURNS[os.path.realpath(self._path)]
        if not turn.acquire(timeout=self._lock_wait_s):
            raise LocalError(f"{self._path} is held by another thread", hint="Run this again")
        try:
            yield
        finally:
            turn.release()

    def _attach(self, connection: duckdb.DuckDBPyConnection, options: str) -> None:
        """Attach the file that has the path, and not the one that had it before a rewrite (rewrite.py)."""

        def attempt() -> bool:
            before = _identify(self._path)
            connection.execute(f"attach {quote(self._path)} as store ({options})")
            if before in {None, _identify(self._path)}:
                return True
            connection.execute("detach store")
            return False

        wait_for_lock(attempt, wait_s=self._lock_wait_s, clock=self._clock, sleep=self._sleep)


def wait_for_lock(
    attempt: Callable[[], bool], *, wait_s: float, clock: Callable[[], float], sleep: Callable[[float], object]
) -> None:
    """Call `attempt` until it is true and no longer fails on a lock, for at most `wait_s`; then let it fail."""
    deadline_s, pause_s = clock() + wait_s, 0.005
    while True:
        try:
            if attempt():
                return
        except duckdb.Error as exc:
            if not is_lock_held(exc) or clock() >= deadline_s:
                raise
        sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)


def _identify(path: str) -> tuple[int, int] | None:
    """Which file has the path; None when there is none."""
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _let_go(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("use memory")
    connection.execute("detach store")


def _nothing_to_verify() -> None:
    """The operating system guards the file."""
