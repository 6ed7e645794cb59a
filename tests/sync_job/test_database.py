"""What log_consumer landed, as sync_job asks for it: units that were seen, records, and what stands in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flagedge.errors import FlagedgeError, LocalError, SettingsError
from log_consumer.databases import Lake
from log_consumer.store import Store
from sync_job.cli import main
from sync_job.database import Database

ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
UNITS = """
    insert into exposures by name
    select
        'flags/a' as flag, 'k' as client_credential, if(n % 2 = 0, 'visitor_id', null) as targeting_key_selector,
        'u' || (n % 50) as targeting_key
    from range(200) t(n)
    union all by name
    select 'flags/b' as flag, 'k' as client_credential, 'visitor_id' as targeting_key_selector
"""
RECORDS = """
    insert into deployments by name
    select
        'r' || n as record_id, 'deployed' as outcome, '"e' || n || '"' as state_etag, '{"upload": 5}' as timings_ms,
        timestamp '2026-11-01 12:00:00' + to_minutes(n::int) as finished_at
    from range(3) t(n);
    insert into flag_changes by name
    select
        'r' || n as record_id, if(n = 1, '', 'flags/o''clock') as flag, 'state' as field, 'changed' as change,
        '"active"' as old_value, null as new_value, 'said ' || n as text
    from range(2) t(n)
"""


def fill(database: str | Lake) -> None:
    """The consumer's own tables, with units and records."""
    with Store(database) as store, store.transaction() as connection:
        connection.execute(UNITS)
        connection.execute(RECORDS)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    fill(str(tmp_path / "exposures.duckdb"))
    return Database(str(tmp_path / "exposures.duckdb"), ENVIRON)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Any]:
    """The server of a catalogue, as the consumer's tests have it."""
    spec = spec_from_file_location("postgres", Path(__file__).parents[1] / "log_consumer/postgres.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.Postgres()
    yield server
    server.close()


@pytest.fixture
def lake(postgres: Any, tmp_path: Path) -> Lake:
    lake: Lake = postgres.make_lake(tmp_path / "lake")
    fill(lake)
    return lake


def environ_of(lake: Lake) -> dict[str, str]:
    """What an operator sets beside DATABASE."""
    return ENVIRON | {"DATABASE_PASSWORD": lake.password.reveal(), "LAKE_DATA_PATH": lake.data_path}


def check_content(database: Database) -> None:
    seen = database.read_seen_units()
    assert seen.keys() == {"flags/a"}
    assert len(seen["flags/a"]) == len(set(seen["flags/a"])) == 50
    assert ("k", "visitor_id", "u0") in seen["flags/a"]
    assert ("k", "", "u1") in seen["flags/a"]
    records = database.read_records(flag="", last=2)
    assert [(each["record_id"], each["finished_at"]) for each in records] == [
        ("r2", "2026-11-01T12:02:00Z"),
        ("r1", "2026-11-01T12:01:00Z"),
    ]
    assert (records[0]["timings_ms"], records[0]["changes"], records[0]["actor"]) == ({"upload": 5}, [], "")
    of_flag = database.read_records(flag="flags/o'clock", last=9)
    assert [(each["record_id"], [change["text"] for change in each["changes"]]) for each in of_flag] == [
        ("r1", ["said 1"]),
        ("r0", ["said 0"]),
    ]
    names = ("flag", "rule", "field", "change", "old", "new", "text")
    values = ("flags/o'clock", "", "state", "changed", "active", None, "said 0")
    assert of_flag[1]["changes"] == [dict(zip(names, values, strict=True))]


def test_a_file(database: Database) -> None:
    """Each unit once, however often it was exposed; records the newest first, of a flag with what concerns all."""
    check_content(database)


def test_a_lake(lake: Lake) -> None:
    """The same out of a lake, by the consumer's own settings."""
    check_content(Database(str(lake), environ_of(lake)))


def test_history_of_a_lake(lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command takes what DATABASE takes, and needs no account for it."""
    for name, value in environ_of(lake).items():
        monkeypatch.setenv(name, value)
    assert main(["history", "--database", str(lake), "--json", "--last", "1"]) == 0
    assert [record["record_id"] for record in json.loads(capsys.readouterr().out)] == ["r2"]


def test_no_more_than_can_be_asked_for(database: Database) -> None:
    """Of many units the same ones are drawn every time."""
    first, second = database.read_seen_units(units_max=7), database.read_seen_units(units_max=7)
    assert first == second
    assert len(first["flags/a"]) == 7


def test_hashed_units(database: Database) -> None:
    """A hash is no unit: nobody could say which bucket it was in."""
    with duckdb.connect(database.name) as connection:
        connection.execute("insert into hash_keys (key_check) values ('x')")
    with pytest.raises(LocalError, match="holds hashes of units"):
        database.read_seen_units()


def test_a_database_that_is_in_use(database: Database) -> None:
    """A consumer has the file for a batch at a time: that is waited for."""
    hold = f"""
import duckdb, sys, time
connection = duckdb.connect({database.name!r})
print("held", flush=True)
time.sleep(1)
"""
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        assert database.read_seen_units().keys() == {"flags/a"}


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A file that is not there, is no database, or another program's."""
    (tmp_path / "text").write_text("no database " * 1000)
    duckdb.connect(tmp_path / "other.duckdb").close()
    for name, says in (
        ("gone", r"^--database: there is no database .*gone\. `log-consumer drain` makes it$"),
        ("text", r"^--database: cannot open .*text: "),
        ("other.duckdb", r"^--database: .*exposures does not exist"),
    ):
        with pytest.raises(LocalError, match=says):
            Database(str(tmp_path / name), ENVIRON).read_seen_units()


def test_a_lake_that_cannot_be_had(lake: Lake) -> None:
    """Settings that are missing are named, all at once; a password is not shown, and a catalogue that is down is."""
    with pytest.raises(SettingsError, match=r"^wrong settings: --database: LAKE_DATA_PATH is not set"):
        Database(str(lake), ENVIRON).read_seen_units()
    wrong = environ_of(lake) | {"DATABASE_PASSWORD": "HUNTER3"}
    with pytest.raises(LocalError, match="cannot reach ducklake:postgres://") as caught:
        Database(str(lake), wrong).read_seen_units()
    assert "HUNTER3" not in str(caught.value)
    down = str(lake).replace(f":{lake.port}/", ":9/")
    with pytest.raises(
        LocalError, match=r"cannot reach ducklake:postgres://.*:9/.*DATABASE and DATABASE_PASSWORD name"
    ):
        Database(down, environ_of(lake)).read_seen_units()


def test_a_consumer_that_is_not_there(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the command there is a way out; one that dies without a word is named."""
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalError, match="read by log-consumer, which is not installed here"):
        database.read_seen_units()
    (tmp_path / "log-consumer").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "log-consumer").chmod(0o755)
    with pytest.raises(FlagedgeError, match="log-consumer ended with exit code -9"):
        database.read_seen_units()
