"""The restore: what was exported, in another database, as if it had been drained there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aws import run_aws
from deliveries import NOW, ask, load_next
from experiments import Experiment, plant
from fake_queue import FakeQueue
from messages import body, busy_request

from flagedge.errors import LocalError
from log_consumer import rolls
from log_consumer.databases import S3, Database, Lake
from log_consumer.export import export
from log_consumer.load import make_stage
from log_consumer.restore import ORDER, ROLLED, restore
from log_consumer.store import Reader, Store
from log_consumer.tables import TIMES

UNITS = "select * from unit_exposures order by all"
HEALTH = "select * from experiment_health order by all"


@pytest.fixture(params=["file", "lake"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A database of its own, which nobody has drained into."""
    database: Database = str(tmp_path / "restored.duckdb")
    if request.param == "lake":
        lake: Lake = request.getfixturevalue("lake")
        database = lake
    with Store(database) as opened:
        make_stage(opened.connection)
        yield opened


@pytest.fixture
def queue(store: Store) -> FakeQueue:
    """What was drained into the file: messages, poison, a redelivery, and experiments with a change and a defect."""
    queue = FakeQueue(*(body(busy_request(number), seq=number) for number in range(6)), "poison")
    load_next(store, queue)
    queue.end_leases()
    load_next(store, queue)
    with store.transaction() as connection:
        plant(connection, Experiment(unit_count=1500, after=(0.2, 0.8), leaked=0.02))
    return queue


def export_all(store: Store, folder: Path) -> str:
    with Reader(store.database) as reader:
        export(reader, str(folder))
    return str(folder)


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every table; which roll they belong to is the database's own affair."""
    columns = {name: "* exclude (roll)" if name in ("exposures", "fallthrough_exposures") else "*" for name in ORDER}
    return {name: sorted(ask(store, f"select {columns[name]} from {name}"), key=repr) for name in ORDER}


@pytest.fixture(params=[500_000, 100], ids=["one roll", "many rolls"])
def open_min(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many rows make a roll."""
    rows: int = request.param
    monkeypatch.setattr(rolls, "OPEN_MIN", rows)
    return rows


def test_everything_comes_back(store: Store, queue: FakeQueue, target: Store, tmp_path: Path, open_min: int) -> None:
    """Every row of every table, the same answers, and what the queue delivers again is known."""
    restored = restore(target, export_all(store, tmp_path / "out"), now=NOW)
    assert contents(target) == contents(store)
    assert restored.rows == {name: len(rows) for name, rows in contents(store).items()}
    assert restored.rows.keys() == TIMES.keys()
    assert (ask(target, "select count(*) > 5 from rolls") == [(True,)]) is (open_min == 100)
    for sql in (UNITS, HEALTH):
        assert ask(target, sql) == ask(store, sql)
    queue.end_leases()
    again = load_next(target, queue)
    assert (again.loaded_count, again.duplicate_count) == (0, 6)


def test_a_database_with_rows_is_left_alone(store: Store, queue: FakeQueue, target: Store, tmp_path: Path) -> None:
    """It is named, with the table; so is a restore that was done already."""
    source = export_all(store, tmp_path / "out")
    restore(target, source, now=NOW)
    before = contents(target)
    with pytest.raises(LocalError, match=r"has rows in \w+ already. Restore into one without rows"):
        restore(target, source, now=NOW)
    assert contents(target) == before


def rewrite(store: Store, file: Path, select: str) -> None:
    """Change what is in a file: `select` comes before its rows."""
    with store.transaction() as connection:
        rows = f"{select} from read_parquet('{file}', hive_partitioning = false)"
        connection.execute(f"copy ({rows}) to '{file}.new' (format parquet)")
    Path(f"{file}.new").replace(file)


def test_what_was_exported_before_there_were_rolls(
    store: Store, queue: FakeQueue, target: Store, tmp_path: Path
) -> None:
    """Its exposures do not say when they landed; the ledger does."""
    with store.transaction() as connection:
        connection.execute("delete from exposures where (isolate, seq) not in (select (isolate, seq) from ledger)")
    source = export_all(store, tmp_path / "out")
    files = [file for name in ROLLED for file in (tmp_path / "out" / name).rglob("*.parquet")]
    assert {file.parts[-3] for file in files} == set(ROLLED)
    for file in files:
        rewrite(store, file, "select * exclude (landed_at, roll)")
    restore(target, source, now=NOW)
    assert contents(target) == contents(store)
    assert ask(target, "select count(*) > 0, count(landed_at) = count(*) from exposures") == [(True, True)]
    for sql in (UNITS, HEALTH):
        assert ask(target, sql) == ask(store, sql)


BROKEN: dict[str, Callable[[Path], object]] = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "no Parquet": lambda file: file.write_text("exposures"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_read_leaves_nothing(store: Store, queue: FakeQueue, tmp_path: Path, kind: str) -> None:
    """The last table's last file: by then all others were written. Mended, the same command does it all."""
    source = Path(export_all(store, tmp_path / "out"))
    file = max((source / "exposures").rglob("*.parquet"))
    whole = file.read_bytes()
    BROKEN[kind](file)
    with Store(str(tmp_path / "restored.duckdb")) as target:
        with pytest.raises(LocalError, match=rf"cannot read .*{file.parent.name}/data\.parquet"):
            restore(target, str(source), now=NOW)
        assert not any(contents(target).values())
        file.write_bytes(whole)
        restore(target, str(source), now=NOW)
        assert contents(target) == contents(store)


def test_columns_that_this_version_lacks_are_refused(store: Store, queue: FakeQueue, tmp_path: Path) -> None:
    """What a newer version exported is not brought back in part."""
    source = export_all(store, tmp_path / "out")
    file = next((tmp_path / "out/ledger").rglob("*.parquet"))
    rewrite(store, file, "select *, 1 as unheard_of")
    with (
        Store(str(tmp_path / "restored.duckdb")) as target,
        pytest.raises(LocalError, match=r"unheard_of.*Restore with the version of flagedge that exported it"),
    ):
        restore(target, source, now=NOW)


def test_a_folder_without_tables_is_named(store: Store, tmp_path: Path) -> None:
    """Whether it is there or not, before the database is touched."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(LocalError, match=rf"there are no tables in {folder}\. --parquet names"):
            restore(store, str(folder), now=NOW)


def test_a_bucket_is_a_source_too(
    store: Store, queue: FakeQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was exported to S3."""
    with run_aws(monkeypatch) as aws, Reader(store.database) as reader:
        aws.client("s3").create_bucket(Bucket="exports", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        s3 = S3(f"http://127.0.0.1:{aws.moto_port}", "eu-west-1")
        export(reader, "s3://exports/flags", s3=s3)
        with Store(str(tmp_path / "restored.duckdb")) as target:
            restore(target, "s3://exports/flags/", now=NOW, s3=s3)
            assert contents(target) == contents(store)


def test_the_command(store: Store, queue: FakeQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says rows by table and asks for nothing but a database; twice is once."""
    source = export_all(store, tmp_path / "out")
    monkeypatch.setenv("DATABASE", str(tmp_path / "restored.duckdb"))
    command = [Path(sys.executable).with_name("log-consumer"), "restore", "--parquet", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert {"ledger: 6 rows", "rejected_messages: 1 rows"} < set(lines)
    assert lines[-1] == f"restored from {source} into {tmp_path / 'restored.duckdb'}"
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("error: ")
    assert "already" in again.stderr
