"""The answers of `log-consumer sql`."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from messages import body, decided, no_match, request

from flagedge.errors import LocalError
from log_consumer.load import Loaded
from log_consumer.query import QueryError, format_answer, query
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
