"""Maintenance: what is too old goes, what is left is in order, and a kill at any point costs nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deliveries import NOW, ask
from fake_queue import QUEUE_ID, FakeQueue
from messages import body, busy_request, decided, request

from flagedge.errors import LocalError
from log_consumer import file as file_module
from log_consumer.databases import Lake
from log_consumer.forward import utc_now
from log_consumer.load import Loaded, decode, load, make_stage
from log_consumer.maintain import REDELIVERY_HORIZON, Maintained, clean_lake, maintain
from log_consumer.query import query
from log_consumer.rewrite import SUFFIX
from log_consumer.store import Store
from log_consumer.tables import AGING, TIMES

DAY_MS = 86_400_000
MIGRATIONS = Path(__file__).parents[2] / "log_consumer/sql/migrations"
# The machinery's own, and what is derived from the others.
NOT_LOGGED = {"outbox", "forwarder", "hash_keys", "erasures", "exposed_units", "rolls", "told_findings"}
COUNTS = "select (select count(*) from exposures), (select count(*) from ledger), (select count(*) from resolve_counts)"


def day_of(days_ago: int, *, count: int = 20, isolate: str = "") -> list[str]:
    """Messages of one isolate, of that day."""
    at_ms = epoch_ms(NOW) - days_ago * DAY_MS
    return [
        body(
            request(decided(unit=f"unit-of-day-{days_ago}-{seq}"), decided(), at_ms=at_ms),
            isolate=isolate or f"isolate-{days_ago}",
            seq=seq,
            sent_at_ms=at_ms,
        )
        for seq in range(count)
    ]


def epoch_ms(at: datetime) -> int:
    return (at - datetime(1970, 1, 1)) // timedelta(milliseconds=1)  # noqa: DTZ001


def land(store: Store, *bodies: str, days_ago: int = 0) -> Loaded:
    """As the job does, so many days ago."""
    text = FakeQueue(*bodies).pull_messages(QUEUE_ID, visibility_timeout_ms=1000)
    batch = decode(store.connection, [text], now=NOW - timedelta(days=days_ago))
    with store.transaction() as connection:
        return load(connection, batch, is_lake=store.is_lake)


@pytest.fixture(params=["file", "lake"])
def any_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store of either kind."""
    database = request.getfixturevalue("database" if request.param == "file" else "lake")
    with Store(database, lock_wait_s=2.0) as store:
        make_stage(store.connection)
        yield store


def test_every_table_has_its_time() -> None:
    """What is exported, divided and aged by a time is every table but those of the machinery."""
    made = re.findall(r"create table (\w+)", "".join(path.read_text() for path in MIGRATIONS.glob("*.sql")))
    assert set(made) - NOT_LOGGED == TIMES.keys()
    assert set(AGING) < TIMES.keys()


def test_what_is_too_old_goes(any_store: Store) -> None:
    """Rows by their own time, streams of the ledger whole and not before a queue can have forgotten them."""
    for days_ago in (100, 40, 1):
        land(any_store, *day_of(days_ago), days_ago=days_ago)
    done = maintain(any_store, retention_days=20, now=NOW)
    assert done.deleted_rows == {"exposures": 80, "resolve_counts": 40, "ledger": 40}
    assert ask(any_store, COUNTS) == [(40, 20, 20)]
    assert maintain(any_store, retention_days=20, now=NOW).deleted_rows == {}


def test_nothing_goes_by_default(any_store: Store) -> None:
    """Without RETENTION_DAYS everything is kept, and stays as it was."""
    land(any_store, *day_of(1000))
    assert maintain(any_store, retention_days=0, now=NOW).deleted_rows == {}
    assert ask(any_store, COUNTS) == [(40, 20, 20)]


def test_the_ledger_outlives_a_short_retention(any_store: Store) -> None:
    """A message that a queue may still deliver again is known, however soon its rows go."""
    assert timedelta(days=28) < REDELIVERY_HORIZON
    land(any_store, *day_of(10), days_ago=10)
    maintain(any_store, retention_days=1, now=NOW)
    assert ask(any_store, COUNTS) == [(0, 20, 0)]
    assert land(any_store, *day_of(10)).loaded_count == 0


def test_a_stream_is_forgotten_whole(any_store: Store) -> None:
    """Else delivery_health would take what was forgotten for missing."""
    land(any_store, *day_of(50, isolate="long-lived")[:10], days_ago=50)
    land(any_store, *day_of(1, isolate="long-lived")[10:], days_ago=1)
    maintain(any_store, retention_days=1, now=NOW)
    assert ask(any_store, "select sum(missing_count), sum(landed_count) from delivery_health") == [(0, 20)]


def test_what_waits_for_confidence_is_kept(any_store: Store) -> None:
    """Only what was given up goes with age."""
    old = NOW - timedelta(days=90)
    with any_store.transaction() as connection:
        for seq, parked_at in ((1, None), (2, old)):
            connection.execute(
                "insert into outbox (isolate, seq, landed_at, text, parked_at) values ('a', $1, $2, '{}', $3)",
                [seq, old, parked_at],
            )
    assert maintain(any_store, retention_days=30, now=NOW).deleted_rows == {"outbox": 1}
    assert ask(any_store, "select seq from outbox") == [(1,)]


# --- a file ----------------------------------------------------------------------------------------------------------


def test_a_file_with_much_deleted_is_written_anew(store: Store) -> None:
    """It shrinks, keeps its permissions, tables, keys and views, and what was deleted is in none of its bytes."""
    for days_ago in (100, 1):
        sent_at_ms = epoch_ms(NOW) - days_ago * DAY_MS
        busy = (body(busy_request(n), seq=n, isolate=f"i{days_ago}", sent_at_ms=sent_at_ms) for n in range(100))
        land(store, *busy, days_ago=days_ago)
    with store.transaction() as connection:
        connection.execute(
            "insert into rejected_messages by name select range as message_id, md5(range::varchar) as body, "
            "timestamp '2020-01-01' as rejected_at from range(200000)"
        )
    path = Path(str(store.database))
    path.chmod(0o640)
    before = path.stat()
    done = maintain(store, retention_days=50, now=NOW)
    assert done.deleted_rows["rejected_messages"] == 200_000
    assert done.is_rewritten
    assert done.bytes_after == path.stat().st_size < done.bytes_before / 2
    assert path.stat().st_mode == before.st_mode
    assert path.stat().st_ino != before.st_ino
    assert not Path(f"{path}{SUFFIX}").exists()
    assert land(store, *(body(seq=n, isolate="i1") for n in range(3))).duplicate_count == 3
    assert query(str(path), "select count(*), (select count(*) from exposures_by_variant) from ledger").rows == [
        (100, 0)
    ]
    assert not maintain(store, retention_days=50, now=NOW).is_rewritten


def test_a_rewrite_that_is_asked_for_leaves_no_byte_of_what_was_deleted(store: Store) -> None:
    """DELETE and CHECKPOINT leave it readable in the file."""
    unit = "somebody-who-wants-to-be-forgotten-" + "0123456789" * 3
    land(store, *(body(request(decided(unit=f"{unit}-{n}")), seq=n) for n in range(50)))
    with store.transaction() as connection:
        connection.execute("delete from exposures")
        connection.execute("insert into rejected_messages by name select 'x' as message_id")
    path = Path(str(store.database))
    assert maintain(store, retention_days=0, now=NOW, rewrite=True).is_rewritten
    assert b"somebody-who-wants" not in path.read_bytes()


KILLED = """
import os, signal, sys
from datetime import datetime
from log_consumer import rewrite
from log_consumer.maintain import maintain
from log_consumer.store import Store

def kill(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

path, point = sys.argv[1:]
if point == "while it is written":
    rewrite.sync_path = kill
elif point == "before it takes its place":
    rewrite.Path.replace = kill
else:
    calls, sync_path = [], rewrite.sync_path
    def kill_at_second(path):
        sync_path(path)
        calls.append(path)
        if len(calls) == 2: kill()
    rewrite.sync_path = kill_at_second
with Store(path) as store:
    maintain(store, retention_days=0, now=datetime(2026, 11, 21), rewrite=True)
"""


@pytest.mark.parametrize("point", ["while it is written", "before it takes its place", "after it"])
def test_a_rewrite_that_is_killed_costs_nothing(deliver: Callable[..., Loaded], store: Store, point: str) -> None:
    """The file is the old one or the new one, and the next run removes what is left."""
    deliver(*(body(seq=seq) for seq in range(10)))
    path = str(store.database)
    done = subprocess.run([sys.executable, "-c", KILLED, path, point], check=False)
    assert done.returncode == -signal.SIGKILL
    assert ask(store, COUNTS) == [(10, 10, 10)]
    maintain(store, retention_days=0, now=NOW, rewrite=True)
    assert ask(store, COUNTS) == [(10, 10, 10)]
    assert [each.name for each in Path(path).parent.glob("exposures*")] == ["exposures.duckdb"]


def test_a_file_that_was_replaced_while_it_was_opened_is_opened_again(
    deliver: Callable[..., Loaded], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opened the old file just before a rewrite took its name must not write to it: nobody would ever read that."""
    deliver(body(seq=1))
    path = Path(str(store.database))
    identify, calls = file_module._identify, []

    def identify_then_replace(name: str) -> Any:
        found = identify(name)
        calls.append(found)
        if len(calls) == 1:  # between the look at the name and the opening
            shutil.copy(path, f"{path}.copy")
            Path(f"{path}.copy").replace(path)
        return found

    monkeypatch.setattr(file_module, "_identify", identify_then_replace)
    deliver(body(seq=2))
    assert len(calls) == 4
    monkeypatch.undo()
    assert ask(store, "select seq from exposures order by 1") == [(1,), (2,)]


def test_consumers_and_maintenance_take_turns_at_a_file(database: str) -> None:
    """Rewritten again and again while messages land: every message is in the last of the files."""
    stop = threading.Event()

    def keep_rewriting() -> None:
        with Store(database) as store:
            while not stop.wait(0.05):
                maintain(store, retention_days=0, now=NOW, rewrite=True)

    thread = threading.Thread(target=keep_rewriting)
    with Store(database) as store:
        make_stage(store.connection)
        thread.start()
        try:
            for seq in range(10):
                land(store, body(seq=seq))
        finally:
            stop.set()
            thread.join()
        assert ask(store, "select count(*), count(distinct seq) from exposures") == [(10, 10)]


def test_a_rewrite_that_cannot_be_written_leaves_the_old_file(deliver: Callable[..., Loaded], store: Store) -> None:
    """The error says what it takes, and nothing is left lying about."""
    deliver(body(seq=1))
    path = Path(str(store.database))
    Path(f"{path}{SUFFIX}.wal").mkdir()  # where DuckDB would write
    with pytest.raises(LocalError, match=r"cannot rewrite .*exposures\.duckdb: .* as much free space"):
        maintain(store, retention_days=0, now=NOW, rewrite=True)
    Path(f"{path}{SUFFIX}.wal").rmdir()
    assert ask(store, COUNTS) == [(1, 1, 1)]


# --- a lake ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lake_store(lake: Lake) -> Iterator[Store]:
    with Store(lake, lock_wait_s=5.0) as store:
        make_stage(store.connection)
        yield store


def age(path: Path) -> None:
    """Let a file be three days old."""
    past_s = time.time() - 3 * 86_400
    os.utime(path, (past_s, past_s))


def files_of(lake: Lake) -> list[Path]:
    return sorted(Path(lake.data_path).rglob("*.parquet"))


def test_small_files_are_merged_and_old_ones_deleted(lake_store: Store, lake: Lake) -> None:
    """By table and day; a reader who began before finds its files for a day."""
    for batch in range(8):
        bodies = (body(busy_request(n), isolate=f"i{batch}", seq=n) for n in range(60))
        land(lake_store, *bodies)
    rows = ask(lake_store, COUNTS)
    many = len(files_of(lake))
    for path in files_of(lake):  # what is old and not needed from now on is no orphan
        age(path)
    done = maintain(lake_store, retention_days=0, now=utc_now())
    assert done.files_before >= 30
    assert done.files_after <= 6
    assert done.deleted_files == 0
    assert len(files_of(lake)) > many
    with lake_store.transaction():
        pass
    done = Maintained()
    clean_lake(lake_store, done, older_than=utc_now() + timedelta(days=1))
    assert done.deleted_files >= many
    assert len(files_of(lake)) == done.files_after
    assert ask(lake_store, COUNTS) == rows


def test_files_that_a_killed_consumer_left_are_deleted(lake_store: Store, lake: Lake) -> None:
    """When nobody can be about to commit them any more; a file that is young may be somebody's."""
    land(lake_store, *(body(busy_request(n), seq=n) for n in range(60)))
    folder = files_of(lake)[0].parent
    old, young = folder / "old.parquet", folder / "young.parquet"
    for path in (old, young):
        shutil.copy(files_of(lake)[0], path)
    age(old)
    assert maintain(lake_store, retention_days=0, now=utc_now()).deleted_files == 1
    assert young.exists()
    assert not old.exists()


def test_cleaning_that_was_killed_between_file_and_record_goes_on(lake_store: Store, lake: Lake) -> None:
    """A file that is gone already is no error."""
    for batch in range(3):
        land(lake_store, *(body(busy_request(n), isolate=f"i{batch}", seq=n) for n in range(60)))
    rows = ask(lake_store, COUNTS)
    before = set(files_of(lake))
    maintain(lake_store, retention_days=0, now=utc_now())
    next(iter(before)).unlink()
    clean_lake(lake_store, Maintained(), older_than=utc_now() + timedelta(days=1))
    assert ask(lake_store, COUNTS) == rows


def test_consumers_and_maintenance_take_turns_at_a_lake(lake: Lake) -> None:
    """Merged again and again while messages land and are delivered again."""
    stop = threading.Event()

    def keep_merging() -> None:
        with Store(lake) as store:
            while not stop.is_set():
                maintain(store, retention_days=0, now=NOW)

    thread = threading.Thread(target=keep_merging)
    with Store(lake) as store:
        make_stage(store.connection)
        with store.transaction():
            pass
        thread.start()
        try:
            for start in range(0, 100, 10):
                land(store, *(body(busy_request(n), seq=n) for n in range(start, start + 12)))
        finally:
            stop.set()
            thread.join()
        assert ask(store, "select count(*), count(distinct seq), sum(duplicate_count) from ledger") == [(102, 102, 18)]
        assert ask(store, "select count(*) from exposures") == [(1020,)]
