"""What log_consumer landed, as sync_job reads it: units that were seen, and what stands in the way of that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from flagedge.errors import LocalError
from sync_job import database as reader
from sync_job.database import read_seen_units

COLUMNS = "flag varchar, client_credential varchar, targeting_key_selector varchar, targeting_key varchar"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "exposures.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(f"create table exposures ({COLUMNS})")
        connection.execute(
            "insert into exposures select 'flags/a', 'k', if(n % 2 = 0, 'visitor_id', null), 'u' || (n % 50) "
            "from range(200) t(n) union all select 'flags/b', 'k', 'visitor_id', null"
        )
    return path


def test_each_unit_once(database: Path) -> None:
    """However often it was exposed; exposures without a unit have none."""
    seen = read_seen_units(database)
    assert seen.keys() == {"flags/a"}
    assert len(seen["flags/a"]) == len(set(seen["flags/a"])) == 50
    assert ("k", "visitor_id", "u0") in seen["flags/a"]
    assert ("k", "", "u1") in seen["flags/a"]


def test_no_more_than_can_be_asked_for(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many units the same ones are drawn every time."""
    monkeypatch.setattr(reader, "SEEN_UNITS_MAX", 7)
    first, second = read_seen_units(database), read_seen_units(database)
    assert first == second
    assert len(first["flags/a"]) == 7


def test_hashed_units(database: Path) -> None:
    """A hash is no unit: nobody could say which bucket it was in."""
    with duckdb.connect(database) as connection:
        connection.execute("create table hash_keys (key_check varchar)")
    assert read_seen_units(database)
    with duckdb.connect(database) as connection:
        connection.execute("insert into hash_keys values ('x')")
    with pytest.raises(LocalError, match="holds hashes of units"):
        read_seen_units(database)


def test_a_database_that_is_in_use(database: Path) -> None:
    """Another process writes to it: an error with a way out, no traceback."""
    hold = f"import duckdb, sys; c = duckdb.connect({str(database)!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(LocalError, match="does no other process write to it now"):
            read_seen_units(database)
        holder.communicate("")
