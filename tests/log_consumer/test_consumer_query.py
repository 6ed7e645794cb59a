"""The answers of `log-consumer sql`."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest
from messages import body, decided, no_match, request

from flagedge.errors import LocalError
from log_consumer.load import Loaded
from log_consumer.query import FORMATS, QueryError, format_answer, query
from log_consumer.store import Store

HOLD = """
import duckdb, sys
held = duckdb.connect(sys.argv[1]); print("held", flush=True); sys.stdin.readline()
"""


@pytest.fixture
def loaded(deliver: Callable[..., Loaded], store: Store) -> str:
    """A database with two exposures of flags/a (one unit) and one of flags/b."""
    deliver(body(request(decided(), decided(), no_match())))
    return store.database


def test_a_table_is_aligned(loaded: str) -> None:
    """Text to the left, numbers to the right, null empty."""
    sql = "select flag, variant, exposure_count, unit_count from exposures_by_variant"
    assert format_answer(query(loaded, sql), "table").splitlines() == [
        "flag     variant              exposure_count  unit_count",
        "───────  ───────────────────  ──────────────  ──────────",
        "flags/a  flags/a/variants/on               2           1",
        "flags/b                                    1           0",
    ]


def test_a_table_stays_in_its_lines(loaded: str) -> None:
    """Long values are cut and what could move the cursor is shown as an escape; wide characters take two columns."""
    text = format_answer(
        query(loaded, r"select e'a\n\x1b[31m' as x, repeat('y', 1000) as long, '漢字' as wide, 1 as n"), "table"
    )
    _, rule, row = text.splitlines()
    assert row.startswith(r"a\n\x1b[31m  yyyy")
    assert len(rule) < 90
    assert len(row) == len(rule) - 2


HOSTILE = {
    "formula": '=HYPERLINK("http://evil.example","click")',
    "plus": "+1+cmd|' /C calc'!A0",
    "minus": "-2+3",
    "at": "@SUM(1)",
    "tab": "\t=1",
    "return": "\r=1",
    "cursor": "a\x1b[31m\x9b2J\x7f\u202eb\U000e0001",
    "lines": 'two\nlines, "quoted"',
}
UNITS = "select resolve_id, targeting_key from exposures where resolve_id in ({})".format(
    ", ".join(f"'{name}'" for name in HOSTILE)
)


@pytest.fixture
def hostile(loaded: str, store: Store) -> str:
    """The database, with units as somebody who means harm would name them."""
    with store.transaction() as connection:
        for name, unit in HOSTILE.items():
            connection.execute(
                "insert into exposures by name select $1 as resolve_id, $2 as targeting_key", [name, unit]
            )
    return loaded


def test_no_text_is_a_formula_in_csv(hostile: str) -> None:
    """It has an apostrophe before it, which spreadsheets take for text; all else is whole, negative numbers too."""
    text = format_answer(query(hostile, UNITS), "csv")
    read = {row["resolve_id"]: row["targeting_key"] for row in csv.DictReader(io.StringIO(text, newline=""))}
    formulas = {"formula", "plus", "minus", "at", "tab", "return"}
    assert read == {name: f"'{unit}" if name in formulas else unit for name, unit in HOSTILE.items()}
    assert format_answer(query(hostile, 'select -1 as n, -0.5 as "=a"'), "csv") == "n,'=a\n-1,-0.5\n"


def test_json_is_whole_and_moves_no_cursor(hostile: str) -> None:
    """What is no character to be seen is escaped, and read as what it was."""
    text = format_answer(query(hostile, UNITS), "json")
    assert all(line.isprintable() for line in text.split("\n"))
    assert {row["resolve_id"]: row["targeting_key"] for row in json.loads(text)} == HOSTILE


@pytest.mark.parametrize("form", FORMATS)
def test_a_terminal_is_shown_escapes(hostile: str, form: str) -> None:
    """Whatever the format; what goes to a file or another command is whole."""
    command = [Path(sys.executable).with_name("log-consumer"), "sql", UNITS, "--format", form]
    environment = os.environ | {"DATABASE": hostile}
    above, below = pty.openpty()
    with FileIO(above) as shown:
        subprocess.run(command, stdout=below, env=environment, check=True)
        os.close(below)
        text = b"".join(iter(lambda: _read(shown), b"")).decode()
    assert all(line.isprintable() for line in text.split("\r\n"))
    assert "x1b[31m" in text or "u001b[31m" in text
    piped = subprocess.run(command, capture_output=True, env=environment, check=True).stdout.decode()
    assert ("\x1b" in piped) == (form == "csv")


def _read(terminal: FileIO) -> bytes:
    """What there is; a terminal that nobody writes to any more fails."""
    try:
        return terminal.read(65536) or b""
    except OSError:
        return b""


def test_csv_and_json_say_the_same(loaded: str) -> None:
    """Both hold whole values; JSON keeps numbers, booleans and nulls."""
    sql = "select flag, is_default, count(*) as n, max(targeting_key) as unit from exposures group by all order by flag"
    answer = query(loaded, sql)
    assert list(csv.DictReader(io.StringIO(format_answer(answer, "csv")))) == [
        {"flag": "flags/a", "is_default": "False", "n": "2", "unit": "visitor-17"},
        {"flag": "flags/b", "is_default": "True", "n": "1", "unit": ""},
    ]
    assert json.loads(format_answer(answer, "json")) == [
        {"flag": "flags/a", "is_default": False, "n": 2, "unit": "visitor-17"},
        {"flag": "flags/b", "is_default": True, "n": 1, "unit": None},
    ]


def test_every_type_has_a_json_form(loaded: str) -> None:
    """Times are ISO 8601, what JSON cannot say is null or text."""
    sql = (
        "select timestamp '2026-11-21 12:00:00' as t, 1.50::decimal(9,2) as d, 'nan'::double as f, [1, null] as l, "
        "{'a': date '2026-11-21'} as s, uuid '00000000-0000-0000-0000-000000000000' as u, "
        "timestamptz '2026-11-21 12:00:00+00' as z"
    )
    assert json.loads(format_answer(query(loaded, sql), "json")) == [
        {
            "t": "2026-11-21T12:00:00",
            "d": 1.5,
            "f": None,
            "l": [1, None],
            "s": {"a": "2026-11-21"},
            "u": "00000000-0000-0000-0000-000000000000",
            "z": "2026-11-21 12:00:00+00",
        }
    ]


def test_an_empty_answer_has_its_names(loaded: str) -> None:
    """No rows is an answer too."""
    answer = query(loaded, "select flag from exposures where false")
    assert [format_answer(answer, form) for form in ("table", "csv", "json")] == ["flag\n────\n", "flag\n", "[]\n"]


def test_every_view_answers(loaded: str) -> None:
    """Each view works on a loaded database and says in its file what it is for."""
    views = sorted((Path(__file__).parents[2] / "log_consumer/sql/views").glob("*.sql"))
    assert views
    for view in views:
        assert query(loaded, f"from {view.stem}").names
        assert view.read_text().startswith(f"-- {view.stem}: ")
        assert "-- Grain: " in view.read_text()


@pytest.mark.parametrize(
    "sql", ["selec 1", "select nothing", "delete from exposures", "select 1/'x'::int", "select error('no')"]
)
def test_wrong_sql_is_one_line(loaded: str, sql: str) -> None:
    """What DuckDB says about the SQL, on one line; nothing is written."""
    with pytest.raises(QueryError) as caught:
        query(loaded, sql)
    assert "\n" not in str(caught.value)
    assert len(query(loaded, "from exposures").rows) == 3


def test_a_missing_database_names_the_way_out(tmp_path: Path) -> None:
    """The file and the command that makes it."""
    with pytest.raises(LocalError, match=r"there is no database .*absent\.duckdb\. `log-consumer drain` makes it"):
        query(str(tmp_path / "absent.duckdb"), "select 1")


def test_a_database_that_is_being_written_is_waited_for(loaded: str) -> None:
    """The consumer holds it for a moment only."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, loaded], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LocalError, match="held by another process"):
            query(loaded, "select 1", lock_wait_s=0.05)
        free = threading.Timer(0.1, holder.communicate, ["\n"])
        free.start()
        assert query(loaded, "select count(*) from exposures").rows == [(3,)]
        free.join()
