"""A lake: the same tables, rows and views as in a file, one writer at a time, and no password in any error."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb_extension_ducklake
import pytest
from deliveries import NOW, ask, load_next
from fake_queue import QUEUE_ID, FakeQueue
from messages import body, busy_request, decided, request
from postgres import PASSWORD, Postgres

from flagedge.errors import LocalError, SettingsError
from flagedge.settings import Secret
from log_consumer.catalogue import CatalogueLock
from log_consumer.databases import Lake
from log_consumer.load import decode, load, make_stage
from log_consumer.outbox import Delivered, Failed, Outbox, Report
from log_consumer.query import QueryError, query
from log_consumer.store import Reader, Store

TABLES = (
    "select table_name from duckdb_tables() where database_name = 'store' and table_name <> 'migrations' order by 1"
)
VIEW_FILES = sorted((Path(__file__).parents[2] / "log_consumer/sql/views").glob("*.sql"))
VIEWS = [path.stem for path in VIEW_FILES]
END_ALL = (
    "select pg_terminate_backend(pid) from pg_stat_activity "
    "where datname = current_database() and pid <> pg_backend_pid()"
)
# Time passes while these are asked.
MOVING = {path.stem for path in VIEW_FILES if "now()" in path.read_text()}


@pytest.fixture
def lake_store(lake: Lake) -> Iterator[Store]:
    with Store(lake, lock_wait_s=2.0) as store:
        make_stage(store.connection)
        yield store


def mixed_queue() -> FakeQueue:
    """What a queue may bring: good messages, redeliveries inside a pull and after it, poison."""
    queue = FakeQueue(*(body(busy_request(number), busy_request(number + 1), seq=number) for number in range(8)))
    queue.send(body(seq=100, isolate="another"), body(seq=100, isolate="another"), "poison", '{"format":"unknown"}')
    queue.send(body(request(decided(unit="it's \\ 漢字")), seq=101, telemetry={"resolve_count": 3, "error_count": 0}))
    return queue


def contents(store: Store, *, views: bool = False) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every table, or view, in some order that is the same for all."""
    names = [name for name in VIEWS if name not in MOVING] if views else [name for (name,) in ask(store, TABLES)]
    return {name: sorted(ask(store, f"from {name}"), key=repr) for name in names}


def write_and(then: Callable[[], object], store: Store) -> None:
    """Something happens between writing and commit."""
    with store.transaction() as connection:
        connection.execute("insert into telemetry (resolve_count) values (1)")
        then()


def test_a_lake_holds_what_a_file_holds(store: Store, lake_store: Store) -> None:
    """The same deliveries, poison and redeliveries among them, make the same rows of every table and view."""
    for each in (store, lake_store):
        queue = mixed_queue()
        first = load_next(each, queue)
        queue.end_leases()
        again = load_next(each, queue)
        assert (first.loaded_count, first.duplicate_count, first.rejected_count) == (10, 1, 2)
        assert (again.loaded_count, again.duplicate_count, again.rejected_count) == (0, 11, 2)
    in_file = contents(store)
    assert in_file.keys() > {"exposures", "ledger", "rejected_messages", "outbox"}
    assert contents(lake_store) == in_file
    assert contents(lake_store, views=True) == contents(store, views=True)
    assert len(in_file["rejected_messages"]) == 2


def test_columns_are_the_same(store: Store, lake_store: Store) -> None:
    """Names, types and defaults; only their order may differ."""
    columns = "select table_name, column_name, data_type from information_schema.columns where table_catalog = 'store'"
    assert sorted(ask(store, columns)) == sorted(ask(lake_store, columns))


def test_days_are_folders(lake_store: Store, lake: Lake) -> None:
    """What is divided by day is found by day without a catalogue."""
    load_next(lake_store, FakeQueue(*(body(busy_request(n), seq=n) for n in range(10))))
    (folder,) = {file.parent for file in (Path(lake.data_path) / "main/exposures").rglob("*.parquet")}
    assert re.search(r"exposures/year=2025/month=11/day=21$", folder.as_posix())


def test_the_ledger_is_looked_into_by_time(lake_store: Store) -> None:
    """A batch reads the files of its own time, however long the ledger is."""
    day_ms = 86_400_000
    bodies = [
        [body(isolate=f"of day {day}", seq=seq, sent_at_ms=1_763_700_000_000 + day * day_ms) for seq in range(60)]
        for day in range(5)
    ]
    for day in bodies:
        load_next(lake_store, FakeQueue(*day))
    queue = FakeQueue(*bodies[2][:10])
    loaded = load_next(lake_store, queue)
    assert loaded.duplicate_count == 10
    claim = (Path(__file__).parents[2] / "log_consumer/sql/load/claim_lake.sql").read_text()
    with lake_store.transaction() as connection:
        plan = connection.execute(f"explain analyze {claim}").fetchall()[0][1]
        files = connection.execute("select count(*) from ducklake_list_files('store', 'ledger')").fetchall()
    assert files == [(6,)]  # one a day, and what was counted as redelivered
    assert re.findall(r"Total Files Read: (\d+)", plan) == ["2"]


def test_many_stores_on_one_lake_land_each_message_once(lake: Lake) -> None:
    """Threads with stores of their own, given the same messages at the same moment."""
    bodies = [body(busy_request(number), seq=number) for number in range(30)]
    barrier, counts = threading.Barrier(4), []

    def work() -> None:
        with Store(lake) as store:
            make_stage(store.connection)
            barrier.wait()
            queues = [FakeQueue(*bodies[start : start + 5]) for start in range(0, 30, 5)]
            counts.extend(load_next(store, queue).loaded_count for queue in queues)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 30
    totals = "select count(*), count(distinct (isolate, seq)), sum(duplicate_count) from ledger"
    assert query(lake, totals).rows == [(30, 30, 90)]
    assert query(lake, "select count(*) from exposures").rows == [(300,)]


def test_the_wait_for_the_lock_is_bounded(lake: Lake, lake_store: Store) -> None:
    """Who holds it stuck is waited for, then named; as soon as it is free the same store goes on."""
    with Store(lake, lock_wait_s=0.05) as other, lake_store.transaction():
        for _ in range(2):
            with pytest.raises(LocalError, match="is held by another consumer"), other.transaction():
                pass
    with Store(lake, lock_wait_s=0.05) as other:
        assert ask(other, "select count(*) from ledger") == [(0,)]


def test_a_hold_that_was_lost_commits_nothing(lake: Lake, lake_store: Store, postgres: Postgres) -> None:
    """Without its lock a transaction ends before the commit, for another consumer may be writing by then."""
    load_next(lake_store, FakeQueue(body(seq=1)))

    def end_lock() -> None:
        with postgres.connect(lake.name) as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted "
                "and database = (select oid from pg_database where datname = current_database())"
            )

    with pytest.raises(LocalError, match=r"lost the hold of .* Nothing of this batch was acked"):
        write_and(end_lock, lake_store)
    assert ask(lake_store, "select count(*) from telemetry") == [(0,)]


def test_an_idle_lock_connection_that_was_cut_is_opened_again(lake: Lake, postgres: Postgres) -> None:
    """A gateway forgets connections that say nothing for long."""
    lock = CatalogueLock(lake, wait_s=1.0)
    with lock.hold():
        pass
    with postgres.connect(lake.name) as admin:
        admin.execute(END_ALL)
    with lock.hold() as verify:
        verify()
    assert lock.connection_number == 2
    lock.close()


def test_a_failed_transaction_leaves_nothing_in_a_lake(lake_store: Store) -> None:
    """What raises inside takes everything with it, and the store works on."""
    with pytest.raises(LocalError, match="cannot write"), lake_store.transaction() as connection:
        connection.execute("insert into telemetry (resolve_count) values (1); select 'x'::int")
    with pytest.raises(ZeroDivisionError):
        write_and(lambda: 1 // 0, lake_store)
    assert ask(lake_store, "select count(*) from telemetry") == [(0,)]


def test_migrations_of_a_lake_are_recorded(lake_store: Store) -> None:
    """Those of a file are not applied, and not missed either."""
    names = {name for (name,) in ask(lake_store, "select name from migrations")}
    assert {"migrations/0001_tables", "migrations/0003_partitions.lake", "views/exposures_by_variant"} <= names
    assert not any(name.endswith(".file") for name in names)


def test_a_newer_lake_is_refused(lake: Lake, lake_store: Store) -> None:
    """A migration that this version does not know stops it before it writes."""
    with lake_store.transaction() as connection:
        connection.execute("insert into migrations values ('migrations/9999_future', '', now()::timestamp)")
    with Store(lake) as other, pytest.raises(LocalError, match="9999_future"), other.transaction():
        pass


def test_an_outbox_in_a_lake(lake: Lake, lake_store: Store) -> None:
    """One forwarder at a time takes, tells what became of it, parks and has tried again; the view says so."""
    queue = FakeQueue(*(body(seq=seq) for seq in range(3)))
    text = queue.pull_messages(QUEUE_ID, visibility_timeout_ms=1000)
    batch = decode(lake_store.connection, [text], now=NOW, keeps_text=True)
    with lake_store.transaction() as connection:
        load(connection, batch, is_lake=True, fills_outbox=True)
    with Store(lake) as other_store:
        outbox, other = Outbox(lake_store), Outbox(other_store)
        first, second, third = outbox.turn(Report(), now=NOW, max_bytes=1_000_000).messages
        assert [each.seq for each in (first, second, third)] == [0, 1, 2]
        assert other.turn(Report(), now=NOW, max_bytes=1_000_000).messages == ()
        report = Report(
            delivered=[Delivered(first, "edge")],
            failed=[Failed(second, "refused", is_refused=True, is_parked=True), Failed(third, "later", wait_s=60)],
        )
        assert outbox.turn(report, now=NOW, max_bytes=1_000_000).messages == ()
        states = "select state, message_count, reason from forwarding order by state"
        assert ask(lake_store, states) == [("delivered", 1, None), ("parked", 1, "refused"), ("waiting", 1, "later")]
        assert outbox.redrive() == 1
        later = other.turn(Report(), now=NOW + timedelta(minutes=2), max_bytes=1_000_000)
        assert sorted(each.seq for each in later.messages) == [1, 2]


# --- asking ----------------------------------------------------------------------------------------------------------


def test_sql_over_a_lake_is_read_only(lake: Lake, lake_store: Store) -> None:
    """Every view answers; nothing can be written, and while somebody writes it can be read."""
    load_next(lake_store, mixed_queue())
    with Reader(lake) as reader, reader.look() as connection:
        for view in VIEWS:
            assert connection.execute(f"select count(*) from {view}").fetchall()
    with lake_store.transaction() as connection:
        connection.execute("delete from exposures")
        assert query(lake, "select count(*) > 0 from exposures").rows == [(True,)]
        connection.execute("rollback")
        connection.execute("begin")
    for sql in ("delete from exposures", "create table x (y int)", "drop view exposures_by_variant", "checkpoint"):
        with pytest.raises(QueryError):
            query(lake, sql)
    assert "exposures" in {row[0] for row in query(lake, "show tables").rows}


def test_a_lake_that_is_not_there_is_not_made_by_a_question(lake: Lake, postgres: Postgres) -> None:
    """An empty database stays empty."""
    with pytest.raises(LocalError, match=r"there is no lake in ducklake:postgres://.*`log-consumer drain` makes it"):
        query(lake, "select 1")
    with postgres.connect(lake.name) as connection:
        assert connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone() == (0,)


# --- errors ----------------------------------------------------------------------------------------------------------


WRONG: dict[str, Callable[[Lake], Lake]] = {
    "host": lambda lake: replace(lake, host="nowhere.invalid"),
    "port": lambda lake: replace(lake, port=1),
    "user": lambda lake: replace(lake, user="nobody"),
    "password": lambda lake: replace(lake, password=Secret(f"wrong {PASSWORD}")),
    "no password": lambda lake: replace(lake, password=Secret("")),
    "database": lambda lake: replace(lake, name="absent"),
    "encryption": lambda lake: replace(lake, tls=(("sslmode", "require"),)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_reached_is_named_without_its_password(lake: Lake, name: str) -> None:
    """One line, the address, what is wrong and the way out; writing and asking alike."""
    wrong = WRONG[name](lake)
    with pytest.raises(LocalError) as writing, Store(wrong) as store, store.transaction():
        pass
    with pytest.raises(LocalError) as asking:
        query(wrong, "select 1")
    for error in (str(writing.value), str(asking.value), repr(writing.value), repr(wrong), str(wrong)):
        assert "HUNTER2" not in error
        assert "\n" not in error
    for error in (str(writing.value), str(asking.value)):
        assert error.startswith(f"cannot reach {wrong}: ")
        assert "DATABASE_PASSWORD" in error


def test_a_password_in_what_others_say_is_hidden(lake: Lake) -> None:
    """Should a later version print it after all."""
    assert lake.hide(f'at "host=x password={PASSWORD}"') == 'at "host=x password=***"'


def test_without_the_extra_the_way_out_is_named(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lake needs packages that not everybody installs."""
    monkeypatch.setattr("log_consumer.engine.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'flagedge\[lake\]'") as caught:
        Store(lake)
    assert caught.value.exit_code == 2


def test_an_extension_that_was_tampered_with_is_not_loaded(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's signature is what a package of the same name cannot forge."""
    (original,) = Path(duckdb_extension_ducklake.__path__[0]).glob("extensions/*/*.duckdb_extension")
    forged = tmp_path / "extensions/v1.5.5/ducklake.duckdb_extension"
    forged.parent.mkdir(parents=True)
    content = bytearray(original.read_bytes())
    content[1_000_000] ^= 1
    forged.write_bytes(content)
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr("log_consumer.engine.find_spec", lambda name: spec)
    with pytest.raises(LocalError, match="signature"):
        Store(lake)


# --- the catalogue goes away ----------------------------------------------------------------------------------------


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """One that a test may stop."""
    server = Postgres()
    yield server
    server.close()


def test_a_catalogue_that_is_down_loses_nothing(own_postgres: Postgres, tmp_path: Path) -> None:
    """Down before a batch, and dying between claim and commit: an error, nothing half done, then the same again."""
    lake = own_postgres.make_lake(tmp_path / "lake")
    queue = FakeQueue(*(body(seq=seq) for seq in range(20)))
    with Store(lake, lock_wait_s=1.0) as store:
        make_stage(store.connection)
        load_next(store, FakeQueue(body(seq=1000)))
        own_postgres.stop()
        with pytest.raises(LocalError, match=r"cannot reach ducklake:.*refused.*DATABASE"):
            load_next(store, queue)
        own_postgres.start()
        queue.end_leases()
        with pytest.raises(LocalError) as dying:
            write_and(own_postgres.stop, store)
        assert "lost the hold of" in str(dying.value)
        assert "HUNTER2" not in str(dying.value)
        own_postgres.start()
        assert load_next(store, queue).loaded_count == 20
    assert query(lake, "select count(*), (select count(*) from telemetry) from exposures").rows == [(21, 0)]


def test_a_commit_that_the_catalogue_does_not_take_is_no_commit(own_postgres: Postgres, tmp_path: Path) -> None:
    """It dies after the hold was verified: DuckLake's own commit fails, and a redelivery makes it whole."""
    lake = own_postgres.make_lake(tmp_path / "lake")
    with Store(lake, lock_wait_s=1.0) as store:
        make_stage(store.connection)
        load_next(store, FakeQueue(body(seq=1)))
        place = store._place
        hold = place._lock._verify
        place._lock._verify = lambda connection: (hold(connection), own_postgres.stop())
        with pytest.raises(LocalError, match="cannot write ducklake:"):
            load_next(store, FakeQueue(body(seq=2)))
        del place._lock._verify
        own_postgres.start()
        assert load_next(store, FakeQueue(body(seq=1), body(seq=2))).loaded_count == 1
        assert ask(store, "select seq from exposures order by 1") == [(1,), (2,)]
