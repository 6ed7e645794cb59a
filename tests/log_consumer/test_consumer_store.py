"""Who holds the file, and how its tables come to their shape."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from messages import body

from flagedge.errors import LocalError
from log_consumer import migrate as migrate_module
from log_consumer.load import Loaded
from log_consumer.migrate import migrate
from log_consumer.store import Store

HOLD = """
import duckdb, sys
held = duckdb.connect(sys.argv[1]); held.execute("create table if not exists held (x integer)")
print("held", flush=True); sys.stdin.readline()
"""
READ = """
import duckdb, sys
print(duckdb.connect(sys.argv[1], read_only=True).sql("select count(*) from exposures").fetchall())
"""


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_migrations_are_applied_once_and_recorded(store: Store) -> None:
    """The second attach finds everything in place."""
    with store.transaction() as connection:
        names = [
            row[0] for row in connection.execute("select name from migrations order by applied_at, name").fetchall()
        ]
        assert "migrations/0001_tables" in names
        assert "views/exposures_by_variant" in names
        assert migrate(store.connection) == []


def test_a_failed_migration_leaves_neither_change_nor_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is written in the same transaction as the change."""
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/0001_bad.sql").write_text("create table half (x integer); create table half (x integer);")
    monkeypatch.setattr(migrate_module, "SQL", tmp_path)
    connection = duckdb.connect()
    with pytest.raises(duckdb.CatalogException):
        migrate(connection)
    assert connection.execute("select count(*) from migrations").fetchall() == [(0,)]
    assert connection.execute("select count(*) from duckdb_tables() where table_name = 'half'").fetchall() == [(0,)]


def test_a_view_that_changed_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views follow their file; migrations do not."""
    connection = duckdb.connect()
    for version in ("1", "2"):
        folder = tmp_path / version
        (folder / "views").mkdir(parents=True)
        (folder / "views/one.sql").write_text(f"create or replace view one as select {version} as x;")
        monkeypatch.setattr(migrate_module, "SQL", folder)
        assert migrate(connection) == ["views/one"]
        assert migrate(connection) == []
    assert connection.execute("from one").fetchall() == [(2,)]


def test_a_newer_database_is_refused(store: Store) -> None:
    """A migration that this version does not know stops it before it writes."""
    with store.transaction() as connection:
        connection.execute("insert into migrations values ('migrations/9999_future', '', now()::timestamp)")
    for _ in range(2):
        with pytest.raises(LocalError, match="9999_future"), store.transaction():
            pass


def test_the_file_is_held_for_a_transaction_and_free_after_it(deliver: Callable[..., Loaded], store: Store) -> None:
    """Another process reads what was committed as soon as the transaction ends, and not before."""
    with store.transaction():
        assert "Could not set lock" in _python(READ, store.database).stderr
    deliver(body())
    assert _python(READ, store.database).stdout.strip() == "[(1,)]"


def test_a_commit_leaves_no_log_beside_the_file(deliver: Callable[..., Loaded], store: Store) -> None:
    """What is committed stands in the file itself: copying that one file copies everything."""
    deliver(body())
    assert not Path(f"{store.database}.wal").exists()


def test_small_batches_are_merged_and_a_backlogs_are_not(deliver: Callable[..., Loaded], store: Store) -> None:
    """Row groups stay few over many small batches; a batch of a backlog leaves those before it as they are."""

    def row_groups() -> int:
        counted = "select count(distinct row_group_id) from pragma_storage_info('exposures')"
        with store.transaction(merge=False) as connection:
            return int(connection.execute(counted).fetchall()[0][0])

    for seq in range(20):
        deliver(body(seq=seq))
    merged = row_groups()
    for _ in range(20):
        with store.transaction(merge=False) as connection:
            connection.execute("insert into exposures from exposures limit 1")
    assert merged <= 3
    assert row_groups() >= merged + 20


def test_a_held_file_is_waited_for_and_then_named(database: str) -> None:
    """The wait is bounded, the error names the file; once it is free the same store goes on."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with Store(database, lock_wait_s=0.1) as store:
            with pytest.raises(LocalError, match=r"exposures\.duckdb is held by another process"), store.transaction():
                pass
            holder.communicate("\n")
            with store.transaction() as connection:
                assert connection.execute("select count(*) from ledger").fetchall() == [(0,)]


def test_a_bad_path_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    """An error opening the database is one line with its path."""
    foreign = tmp_path / "notes.txt"
    foreign.write_text("not a database, " * 1000)
    for path in (tmp_path / "absent/exposures.duckdb", foreign, tmp_path):
        with (
            Store(str(path)) as store,
            pytest.raises(LocalError, match="cannot open") as caught,
            store.transaction(),
        ):
            pass
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_path_with_quotes_is_a_path(tmp_path: Path) -> None:
    """The path is data in the ATTACH statement."""
    path = tmp_path / "it's; drop.duckdb"
    with Store(str(path)) as store, store.transaction():
        pass
    assert path.exists()


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    """What raises inside takes everything with it, and the store works on."""
    with pytest.raises(LocalError, match="cannot write"), store.transaction() as connection:
        connection.execute("insert into telemetry (resolve_count) values (1); select 'x'::int")
    with store.transaction() as connection:
        assert connection.execute("select count(*) from telemetry").fetchall() == [(0,)]


def test_threads_take_turns_at_a_file(store: Store) -> None:
    """A drain and its forwarder are one process, which the system does not keep apart: they never meet in DuckDB."""

    def poll(_: float) -> None:
        raise AssertionError("it attached what another thread had")

    def hold() -> None:
        with Store(store.database, sleep=poll) as other, other.transaction():
            held.append(threading.get_ident())

    held: list[int] = []
    threads = [threading.Thread(target=hold) for _ in range(3)]
    with store.transaction():
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        assert held == []
    for thread in threads:
        thread.join(60)
    assert len(held) == 3
