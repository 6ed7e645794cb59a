"""A lake as the place of the tables: DuckLake, with Parquet on S3 or in a folder and a catalogue in Postgres.

Many consumers write at once, and a lake has no unique keys: without more, two that are given the same message would
both commit it, without an error. So the catalogue's lock is taken before a transaction begins and held past its
commit; between the two, the look into the ledger and the writing are one.

A lake stays attached between transactions, for that costs 50 ms; after a failure it is attached anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import duckdb

from flagedge.errors import LocalError
from log_consumer.catalogue import CONNECT_TIMEOUT_S, KEEPALIVES, CatalogueLock
from log_consumer.databases import Lake
from log_consumer.engine import load_extension, quote, translate_errors
from log_consumer.migrate import migrate
from log_consumer.s3 import is_s3, load_s3, sign_in_to_s3

# Rows always go to files. DuckLake 1.5.5 would keep a few in the catalogue instead, and fails to read those, for good
# and for the whole process, when another consumer has moved them to a file meanwhile.
WRITING = "data_inlining_row_limit 0"
NO_LAKE = "creating a new DuckLake is explicitly disabled"


class LakePlace:
    """A lake that is attached as `store`."""

    is_lake = True

    def __init__(self, lake: Lake, *, lock_wait_s: float) -> None:
        self._lake = lake
        self._lock = CatalogueLock(lake, wait_s=lock_wait_s)
        # Which connection of the lock the lake was attached beside: a catalogue that went away took both.
        self._attached_beside: int | None = None
        self._is_looked_at = False

    def open(self, connection: duckdb.DuckDBPyConnection) -> None:
        load_extension(connection, "ducklake")
        load_extension(connection, "postgres_scanner")
        _create_catalogue_secret(connection, self._lake)
        if is_s3(self._lake.data_path):
            load_s3(connection)

    @contextmanager
    def hold(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        merge: bool,  # noqa: ARG002 - files alone merge as they commit
    ) -> Iterator[Callable[[], None]]:
        with self._lock.hold() as verify:
            try:
                self._attach(connection)
                yield verify
                connection.execute("use memory")
            except BaseException:
                self._detach(connection)
                raise

    @contextmanager
    def look(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        if not self._is_looked_at:
            try:
                with translate_errors(self._lake, "reach"):
                    _attach_lake(connection, self._lake, "read_only")
            except LocalError as exc:
                if NO_LAKE not in exc.message:
                    raise
                raise LocalError(f"there is no lake in {self._lake}", hint="`log-consumer drain` makes it") from exc
        self._is_looked_at = True
        yield

    def close(self) -> None:
        self._lock.close()

    def _attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        if self._attached_beside == self._lock.connection_number:
            connection.execute("use store")
            return
        self._detach(connection)
        with translate_errors(self._lake, "reach"):
            _attach_lake(connection, self._lake, WRITING)
            migrate(connection, kind="lake")
        self._attached_beside = self._lock.connection_number

    def _detach(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._attached_beside = None
        for statement in ("rollback", "use memory", "detach database if exists store"):
            with suppress(duckdb.Error):
                connection.execute(statement)


def _attach_lake(connection: duckdb.DuckDBPyConnection, lake: Lake, options: str) -> None:
    if is_s3(lake.data_path):
        sign_in_to_s3(connection, lake.s3)
    connection.execute(f"attach 'ducklake:lake' as store ({options})")
    connection.execute("use store")


def _create_catalogue_secret(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """What names the catalogue, with the password in a secret: DuckDB prints the text of an ATTACH that fails."""
    parts = {"host": lake.host, "user": lake.user, "database": lake.name, "password": lake.password.reveal()}
    given = ", ".join(f"{key} {quote(value)}" for key, value in parts.items() if value)
    connection.execute(f"create or replace secret catalogue (type postgres, port {lake.port}, {given})")
    options = {"connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVES, **dict(lake.tls)}
    conninfo = " ".join(f"{key}={_quote_conninfo(str(value))}" for key, value in options.items())
    connection.execute(
        f"create or replace secret lake (type ducklake, metadata_path {quote(conninfo)}, "
        f"data_path {quote(lake.data_path)}, "
        "metadata_parameters map {'TYPE': 'postgres', 'SECRET': 'catalogue'})"
    )


def _quote_conninfo(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
