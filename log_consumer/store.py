"""The store: the tables, wherever they are, and who may write to them.

A store works in memory, where a batch is decoded, and holds its tables for one transaction at a time. Two places can
hold tables: a DuckDB file (file.py), which one process at a time may have open, and a lake (lake.py), which many share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import Protocol, Self

import duckdb

from log_consumer.analysis import Value, set_variables
from log_consumer.databases import Database, Lake
from log_consumer.engine import Engine, translate_errors
from log_consumer.file import FilePlace
from log_consumer.lake import LakePlace


class Place(Protocol):
    """Where tables are. `is_lake`: there are no unique keys, and a statement returns no rows that it wrote."""

    @property
    def is_lake(self) -> bool: ...

    def open(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Prepare a new connection: load what it takes to get there. Reaches nobody."""

    def hold(self, connection: duckdb.DuckDBPyConnection, *, merge: bool) -> AbstractContextManager[Callable[[], None]]:
        """Have the tables to oneself, as the database in use, in their newest shape.

        Gives what is to be called before a commit: it raises when somebody else may have them by now. Raises LocalError
        when they cannot be had. What raises inside leaves nothing attached that could be broken.
        """

    def look(self, connection: duckdb.DuckDBPyConnection) -> AbstractContextManager[None]:
        """Have the tables to read, as the database in use, as long as nobody holds them. Not mixed with holds.

        Raises LocalError when they cannot be had, or are not there.
        """

    def close(self) -> None:
        """Let go of what is kept between holds."""


class Store:
    """The tables of a database, written in short holds; `connection` works in memory between them.

    `lock_wait_s` bounds the wait for tables that somebody else holds.
    """

    def __init__(
        self,
        database: Database,
        *,
        engine: Engine | None = None,
        lock_wait_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.database = database
        # A consumer is given one core.
        self.connection = (engine or Engine()).connect(threads=1)
        self._place = _find_place(database, lock_wait_s=lock_wait_s, clock=clock, sleep=sleep)
        self._place.open(self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        self._place.close()

    @property
    def is_lake(self) -> bool:
        return self._place.is_lake

    @contextmanager
    def hold(self, *, merge: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hold the tables without a transaction around it, for what has transactions of its own."""
        with self._place.hold(self.connection, merge=merge), translate_errors(self.database, "write"):
            yield self.connection

    @contextmanager
    def transaction(self, *, merge: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hold the tables; all that is written inside is committed, or none of it.

        `merge` lets the commit to a file merge row groups that are not full, which rewrites them: right for small
        batches, which leave many, and too dear while there is a backlog, whose batches are large. Raises LocalError
        when the tables cannot be had or written; after a commit that raised, they may have been written all the same.
        """
        with (
            self._place.hold(self.connection, merge=merge) as verify_hold,
            translate_errors(self.database, "write"),
        ):
            self.connection.execute("begin")
            try:
                yield self.connection
                verify_hold()
                self.connection.execute("commit")
            except BaseException:
                with suppress(duckdb.Error):  # a commit that failed has ended the transaction
                    self.connection.execute("rollback")
                raise


class Reader:
    """The tables of a database to look at; a file can be written by others between two looks.

    `analysis` are variables of the view analysis_settings that are not to have their defaults.
    """

    def __init__(
        self,
        database: Database,
        *,
        engine: Engine | None = None,
        lock_wait_s: float = 10.0,
        analysis: Mapping[str, Value] | None = None,
    ) -> None:
        self.connection = (engine or Engine()).connect()
        set_variables(self.connection, analysis or {})
        self._place = _find_place(database, lock_wait_s=lock_wait_s, clock=time.monotonic, sleep=time.sleep)
        self._place.open(self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    @contextmanager
    def look(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Raises LocalError when the tables cannot be had, or are not there."""
        with self._place.look(self.connection):
            yield self.connection


def _find_place(
    database: Database, *, lock_wait_s: float, clock: Callable[[], float], sleep: Callable[[float], object]
) -> Place:
    if isinstance(database, Lake):
        return LakePlace(database, lock_wait_s=lock_wait_s)
    return FilePlace(database, lock_wait_s=lock_wait_s, clock=clock, sleep=sleep)
