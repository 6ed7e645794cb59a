"""What DATABASE may be, what a function may use, and the commands that look after a database."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from deliveries import load_next
from fake_queue import FakeQueue
from messages import body
from postgres import PASSWORD

from flagedge.errors import SettingsError
from flagedge.settings import Secret
from log_consumer.cli import main
from log_consumer.databases import S3, Lake, show_database
from log_consumer.engine import Engine
from log_consumer.load import make_stage
from log_consumer.query import query
from log_consumer.settings import read_query_settings, read_settings
from log_consumer.store import Store

URL = "ducklake:postgres://flags@catalogue.example:6432/lake"
LAKE = {"DATABASE": URL, "DATABASE_PASSWORD": PASSWORD, "LAKE_DATA_PATH": "s3://bucket/prefix"}


def problems_of(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        read_query_settings(environ)
    assert "HUNTER2" not in str(caught.value)
    return str(caught.value)


def test_a_path_is_a_file() -> None:
    """As it is written, also one that looks odd."""
    assert read_query_settings({}).database == "exposures.duckdb"
    for path in ("data/flags.duckdb", "/srv/it's.db", "C:/flags.duckdb"):
        assert read_query_settings({"DATABASE": path}).database == path


def test_a_lake_is_a_url_and_what_stands_beside_it() -> None:
    """The password in its own setting, where S3 is in AWS's."""
    beside = {"AWS_REGION": "eu-north-1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"}
    expected = Lake(
        host="catalogue.example",
        user="flags",
        name="lake",
        port=6432,
        password=Secret(PASSWORD),
        tls=(("sslmode", "verify-full"), ("sslrootcert", "/etc/ca.pem")),
        data_path="s3://bucket/prefix",
        s3=S3("http://127.0.0.1:9000", "eu-north-1"),
    )
    url = f"{URL}?sslmode=verify-full&sslrootcert=/etc/ca.pem"
    assert read_query_settings(LAKE | beside | {"DATABASE": url}).database == expected
    assert read_settings(LAKE | beside | {"DATABASE": url, "CLOUDFLARE_API_TOKEN": "t"}).database == expected


def test_a_password_in_the_url_is_taken_and_never_shown() -> None:
    """Percent-encoded, as URLs are."""
    url = "ducklake:postgresql://flags:p%40ss%3AHUNTER2@host/lake"
    lake = read_query_settings({"DATABASE": url, "LAKE_DATA_PATH": "/srv/lake"}).database
    assert isinstance(lake, Lake)
    assert (lake.password.reveal(), lake.port) == ("p@ss:HUNTER2", 5432)
    for shown in (str(lake), repr(lake), show_database(url), show_database("postgres://u:HUNTER2@h/d")):
        assert "HUNTER2" not in shown


@pytest.mark.parametrize(
    "database",
    [
        "postgres://u:HUNTER2@h/d",
        "ducklake:postgres:host=h password=HUNTER2",
        "ducklake:postgres://:HUNTER2@h/d",
        "ducklake:postgres://u:HUNTER2@/d",
        "ducklake:postgres://u:HUNTER2@h",
        "ducklake:postgres://u:HUNTER2@h:port/d",
        "ducklake:postgres://u:HUNTER2@h/d?options=-c",
        "ducklake:postgres://u:HUNTER2@h/d#x",
        "ducklake:mysql://u:HUNTER2@h/d",
        "ducklake:metadata.ducklake",
        "s3://bucket/HUNTER2",
        "md:HUNTER2",
        ":memory:",
    ],
)
def test_what_is_neither_is_refused(database: str) -> None:
    """Exit 2 with what it must be, and never with what it was."""
    assert "DATABASE must be the path of a DuckDB file, or ducklake:postgres://" in problems_of({"DATABASE": database})


def test_half_a_lake_is_refused() -> None:
    """Data without a place; a password in two places."""
    assert "LAKE_DATA_PATH is not set" in problems_of({"DATABASE": URL})
    twice = LAKE | {"DATABASE": "ducklake:postgres://flags:HUNTER2@host/lake"}
    assert "DATABASE_PASSWORD is set, and DATABASE has a password too" in problems_of(twice)


# --- what DuckDB may use ---------------------------------------------------------------------------------------------


def test_a_function_refuses_a_local_path() -> None:
    """Its disk is not kept; a lake is what it takes."""
    function = {"AWS_LAMBDA_FUNCTION_NAME": "log-consumer", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "2048"}
    assert "DATABASE is a local path, and a function's disk is not kept" in problems_of(function)
    assert isinstance(read_query_settings(LAKE | function).database, Lake)


def test_a_function_gives_duckdb_part_of_its_memory_and_its_one_folder() -> None:
    """Unless somebody says otherwise."""
    function = LAKE | {"AWS_LAMBDA_FUNCTION_NAME": "log-consumer", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "2048"}
    assert read_query_settings(function).engine == Engine("819MB", "/tmp/duckdb", home="/tmp")
    said = {"DUCKDB_MEMORY_LIMIT": "1.5GiB", "DUCKDB_TEMP_DIRECTORY": "/mnt/scratch"}
    assert read_query_settings(function | said).engine == Engine("1.5GiB", "/mnt/scratch", home="/tmp")
    assert read_query_settings(said).engine == Engine("1.5GiB", "/mnt/scratch")
    assert "DUCKDB_MEMORY_LIMIT must be an amount of memory" in problems_of({"DUCKDB_MEMORY_LIMIT": "much"})


def test_the_engine_takes_its_limits(tmp_path: Path) -> None:
    """They are DuckDB's from the first statement; what it does not take is a wrong setting."""
    engine = Engine("300MB", str(tmp_path / "spill"), home=str(tmp_path))
    names = ("memory_limit", "temp_directory", "home_directory", "autoinstall_known_extensions")
    with engine.connect() as connection:
        values = [connection.execute(f"select current_setting('{name}')").fetchall()[0][0] for name in names]
    assert values == ["286.1 MiB", str(tmp_path / "spill"), str(tmp_path), False]
    with pytest.raises(SettingsError, match="DuckDB does not take its limits"):
        Engine("300XB").connect()


def test_a_consumer_has_one_core_and_an_analyst_all(database: str) -> None:
    """Several consumers share a machine."""
    threads = "select current_setting('threads')"
    with Store(database) as store:
        assert store.connection.execute(threads).fetchall() == [(1,)]
        with store.transaction():
            pass
    assert query(database, threads).rows == [(os.cpu_count(),)]


def test_sql_sees_no_variable_of_this_program() -> None:
    """DuckDB would look for tables among them."""
    secret = [("HUNTER2",)]
    assert secret
    with Engine().connect() as connection, pytest.raises(Exception, match="does not exist"):
        connection.execute("from secret")


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database: str) -> Any:
    """Run a command on a file with three exposures of 2025; what it printed."""
    with Store(database) as store:
        make_stage(store.connection)
        load_next(store, FakeQueue(*(body(seq=seq) for seq in range(3))))
    monkeypatch.setenv("DATABASE", database)

    def run_command(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code
        printed = capsys.readouterr()
        return printed.out if code == 0 else printed.err

    return run_command


def test_maintain_says_what_it_did(run: Any, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words, or as one object."""
    assert run("maintain").splitlines()[0] == "rows deleted for their age: none"
    monkeypatch.setenv("RETENTION_DAYS", "30")
    facts = json.loads(run("maintain", "--json"))
    assert facts["deleted_rows"] == {"exposures": 3, "resolve_counts": 3}
    assert ", written anew" in run("maintain", "--rewrite")
    monkeypatch.setenv("RETENTION_DAYS", "-1")
    assert "RETENTION_DAYS must be a whole number" in run("maintain", code=2)


def test_maintain_of_a_lake_says_what_it_did(lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Files, snapshots and bytes; the password is read from its own setting."""
    with Store(lake) as store:
        make_stage(store.connection)
        for seq in range(3):
            load_next(store, FakeQueue(body(seq=seq)))
    monkeypatch.setenv("DATABASE", str(lake))
    monkeypatch.setenv("DATABASE_PASSWORD", PASSWORD)
    monkeypatch.setenv("LAKE_DATA_PATH", lake.data_path)
    assert main(["maintain"]) == 0
    printed = capsys.readouterr().out
    assert f"{lake}: " in printed
    assert "files before" in printed
    assert "snapshots expired" in printed
    assert main(["sql", "select count(*) as n from exposures", "--format", "csv"]) == 0
    assert capsys.readouterr().out == "n\n3\n"
    monkeypatch.setenv("DATABASE_PASSWORD", "HUNTER2")
    for command in (["maintain"], ["sql", "select 1"], ["export", "--parquet", "out"]):
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: cannot reach {lake}: ")
        assert "HUNTER2" not in line


def test_export_names_a_wrong_table(run: Any, tmp_path: Path) -> None:
    """Exit 2, for it is the command that is wrong."""
    assert "--tables names absent" in run("export", "--parquet", str(tmp_path / "out"), "--tables", "absent", code=2)
