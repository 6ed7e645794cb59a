"""The export: Parquet files by day that any engine reads, each whole or not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from aws import Aws, run_aws
from deliveries import ask, load_next
from fake_queue import FakeQueue
from messages import AT_MS, body, decided, request

from flagedge.errors import LocalError, SettingsError
from log_consumer.databases import S3, Database, Lake
from log_consumer.export import Exported, export
from log_consumer.load import Loaded, make_stage
from log_consumer.store import Reader, Store
from log_consumer.tables import TIMES

DAY_MS = 86_400_000
FIRST_DAY = date(2025, 11, 21)


@pytest.fixture
def loaded(deliver: Callable[..., Loaded], store: Store) -> str:
    """Three days of exposures: 2, 4 and 6 of them."""
    deliver(*three_days())
    return str(store.database)


def three_days() -> list[str]:
    return [
        body(
            *(request(decided(), decided(unit="it's \\ 漢字"), at_ms=AT_MS + day * DAY_MS) for _ in range(day + 1)),
            seq=day,
            sent_at_ms=AT_MS + day * DAY_MS,
        )
        for day in range(3)
    ]


def run_export(database: Database, target: Path | str, **how: Any) -> Exported:
    with Reader(database) as reader:
        return export(reader, str(target), **how)


def read(pattern: str, sql: str) -> list[tuple[Any, ...]]:
    """As another engine would."""
    with duckdb.connect() as connection:
        files = f"read_parquet('{pattern}', hive_partitioning = true)"
        return connection.execute(sql.replace("FILES", files)).fetchall()


def test_every_table_is_written_by_day(loaded: str, store: Store, tmp_path: Path) -> None:
    """One file a day, the rows as they are, and no file for a table without rows."""
    target = tmp_path / "out"
    exported = run_export(loaded, target)
    assert exported.rows.keys() == TIMES.keys()
    assert (exported.rows["exposures"], exported.rows["ledger"], exported.rows["telemetry"]) == (12, 3, 0)
    files = sorted(path.relative_to(target).as_posix() for path in (target / "exposures").rglob("*.*"))
    assert files == [f"exposures/day=2025-11-{day}/data.parquet" for day in (21, 22, 23)]
    assert exported.file_count == len(list(target.rglob("*.parquet")))
    assert read(f"{target}/exposures/*/*", "select day::varchar, count(*) from FILES group by 1 order by 1") == [
        ("2025-11-21", 2),
        ("2025-11-22", 4),
        ("2025-11-23", 6),
    ]
    rows = read(f"{target}/exposures/*/*", "select * exclude (day) from FILES")
    assert sorted(rows, key=repr) == sorted(ask(store, "from exposures"), key=repr)


def test_a_lake_is_exported_as_a_file_is(loaded: str, lake: Lake, tmp_path: Path) -> None:
    """The same files with the same rows."""
    with Store(lake) as lake_store:
        make_stage(lake_store.connection)
        load_next(lake_store, FakeQueue(*three_days()))
    of_file, of_lake = run_export(loaded, tmp_path / "of-file"), run_export(lake, tmp_path / "of-lake")
    assert of_lake == of_file
    for name in ("exposures", "resolve_counts", "ledger"):
        rows = [
            sorted(read(f"{tmp_path}/{kind}/{name}/*/*", "from FILES"), key=repr) for kind in ("of-file", "of-lake")
        ]
        assert rows[0] == rows[1]


def test_days_and_tables_can_be_chosen(loaded: str, tmp_path: Path) -> None:
    """What is left out stays as an earlier export left it; views are one file."""
    target = tmp_path / "out"
    run_export(loaded, target, tables=["exposures"])
    first = target / "exposures/day=2025-11-21/data.parquet"
    before = first.stat().st_mtime_ns
    exported = run_export(loaded, target, tables=["exposures", "exposures_by_variant"], since=date(2025, 11, 23))
    assert exported.rows == {"exposures": 6, "exposures_by_variant": 1}
    assert exported.file_count == 2
    assert first.stat().st_mtime_ns == before
    assert read(f"{target}/exposures_by_variant/*", "select exposure_count, unit_count from FILES") == [(12, 2)]


def test_an_unknown_table_is_named_with_those_there_are(loaded: str, tmp_path: Path) -> None:
    """Before anything is written; also what only the machinery has."""
    for name in ("exposure", "migrations", "exposures; drop table exposures"):
        with pytest.raises(SettingsError, match=f"--tables names {name}: there are .*exposures_by_variant"):
            run_export(loaded, tmp_path / "out", tables=["exposures", name])
    assert not (tmp_path / "out").exists()


def test_rows_without_a_time_are_exported_too(loaded: str, store: Store, tmp_path: Path) -> None:
    """Under the name that Hive has for no value."""
    with store.transaction() as connection:
        connection.execute("insert into deployments (record_id) values ('r')")
    assert run_export(loaded, tmp_path / "out", tables=["deployments"]).rows == {"deployments": 1}
    assert read(f"{tmp_path}/out/deployments/*/*", "select record_id, day from FILES") == [("r", None)]


def test_a_day_takes_the_place_of_an_older_one_at_once(loaded: str, tmp_path: Path) -> None:
    """A failure leaves the file that was there, and nothing that an engine would read."""
    target = tmp_path / "out"
    run_export(loaded, target, tables=["exposures"])
    first = target / "exposures/day=2025-11-21"
    content = (first / "data.parquet").read_bytes()
    (first / ".data.parquet").mkdir()  # nothing can be written where it is first written
    with pytest.raises(LocalError, match=r"cannot write .*day=2025-11-21/data\.parquet: .*--parquet names a folder"):
        run_export(loaded, target, tables=["exposures"])
    assert (first / "data.parquet").read_bytes() == content
    assert read(f"{target}/exposures/*/*", "select count(*) from FILES") == [(12,)]


def test_a_target_that_cannot_be_written_is_named(loaded: str, tmp_path: Path) -> None:
    """A file where a folder should be."""
    (tmp_path / "out").write_text("")
    with pytest.raises(LocalError, match="cannot write"):
        run_export(loaded, tmp_path / "out")


# --- S3 --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    with run_aws(monkeypatch) as running:
        running.client("s3").create_bucket(
            Bucket="exports", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        yield running


def s3_of(aws: Aws) -> S3:
    return S3(f"http://127.0.0.1:{aws.moto_port}", "eu-west-1")


def test_a_bucket_is_a_target_too(loaded: str, aws: Aws) -> None:
    """An object is there when it is whole."""
    exported = run_export(loaded, "s3://exports/flags/", tables=["exposures"], s3=s3_of(aws))
    assert exported.rows == {"exposures": 12}
    listed = aws.client("s3").list_objects_v2(Bucket="exports")["Contents"]
    assert [each["Key"] for each in listed] == [
        f"flags/exposures/day=2025-11-{day}/data.parquet" for day in (21, 22, 23)
    ]


def test_what_s3_refuses_is_named(loaded: str, lake: Lake, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is not there, for an export and for a lake; and nobody to sign in as."""
    with pytest.raises(LocalError, match=r"cannot write s3://absent/exposures/day=.*404"):
        run_export(loaded, "s3://absent", tables=["exposures"], s3=s3_of(aws))
    in_s3 = replace(lake, data_path="s3://absent/lake", s3=s3_of(aws))
    with Store(in_s3) as store:
        make_stage(store.connection)
        with pytest.raises(LocalError, match=r"cannot reach ducklake:.*s3://absent/lake/.*404.*LAKE_DATA") as caught:
            load_next(store, FakeQueue(body()))
    assert "HUNTER2" not in str(caught.value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(LocalError, match=r"no credentials for S3 were found: .* a role, or set AWS_PROFILE"):
        run_export(loaded, "s3://exports", s3=s3_of(aws))


def test_the_command_says_rows_by_table(loaded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks for nothing but a database."""
    monkeypatch.setenv("DATABASE", loaded)
    arguments = ["--parquet", str(tmp_path / "out"), "--tables", "exposures, ledger", "--since", "2025-11-22"]
    command = [Path(sys.executable).with_name("log-consumer"), "export", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "exposures: 10 rows",
        "ledger: 2 rows",
        f"4 files written below {tmp_path / 'out'}",
    ]
