"""The page of `log-consumer report` as text: what is on it, and that it says what the views say."""

from __future__ import annotations

import html
import json
import re
import sys
import tomllib
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from experiments import Experiment, plant
from hypothesis import given
from hypothesis import strategies as st
from reported import EVIL, EXPERIMENTS, NOW, Written, make_database, write

import log_consumer
from log_consumer.cli import main
from log_consumer.query import query
from log_consumer.report.charts import NAME_MAX, draw_deviations
from log_consumer.report.markup import SIGNS, Html, tag
from log_consumer.store import Store

SINCE = datetime(2026, 11, 13, 12)  # noqa: DTZ001 - the database's timestamps are UTC without saying so.


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("report")
    make_database(str(folder / "exposures.duckdb"), *EXPERIMENTS)
    return write(str(folder / "exposures.duckdb"), folder / "report.html")


def ask(written: Written, sql: str) -> list[tuple[Any, ...]]:
    return query(written.database, sql).rows


class Texts(HTMLParser):
    """The text of every element of a name; what is in a comment or a script is none."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._name = name
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == self._name:
            self._depth += 1
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == self._name

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.found[-1] += data


def texts_of(name: str, markup: str) -> list[str]:
    parser = Texts(name)
    parser.feed(markup)
    return parser.found


def test_the_overview_is_experiment_health(written: Written) -> None:
    """Every experiment, the worst first, with the verdict and the words of the view."""
    overview = written.text.split('id="experiment-1"')[0]
    rows = [[html.unescape(cell) for cell in texts_of("td", row)] for row in overview.split("<tr>")[2:]]
    words = {"ok": "✓ok", "warning": "!warning", "alarm": "✕alarm", "unknown": "?unknown"}
    views = ask(written, "select verdict, score, reason from experiment_health order by score, flag, rule")
    assert [(cells[0], cells[3], cells[5]) for cells in rows] == [
        (words[v], str(score), why) for v, score, why in views
    ]
    assert {verdict for verdict, _, _ in views} == {"ok", "alarm"}
    assert written.done.verdicts == {"ok": 2, "alarm": 4}


def test_each_defect_is_told_where_it_is(written: Written) -> None:
    """And not where it is not."""
    for flag in ("well", "lost", "crossed", "leaked", "changed"):
        section = written.section(flag)
        assert ("one allocation gave several: a defect" in section) == (flag == "crossed")
        assert ("its share is 0" in section) == (flag == "leaked")
        assert (">epoch 2</text>" in section) == (flag == "changed")
        assert ("units are not shared out as allocated" in section) == (flag == "lost")


def test_the_sql_below_a_chart_gives_what_is_drawn(written: Written) -> None:
    """Every SQL of the page runs outside of it, with the same answer."""
    queries = written.queries()
    assert len(queries) == 3 + 10 * len(EXPERIMENTS)
    answers = {sql: query(written.database, sql) for sql in queries}
    shown = next(sql for sql in queries if "variant_shares" in sql and "'flags/lost/rules/r'" in sql)
    rows = [dict(zip(answers[shown].names, row, strict=True)) for row in answers[shown].rows]
    cells = texts_of("td", written.section("lost").split("<caption>Observed and expected")[1].split("</table>")[0])
    evil = next(sql for sql in queries if "variant_shares" in sql and "drop table" in sql)
    assert [row[3] for row in answers[evil].rows] == [507, 483]
    assert cells[0::5] == [f"{row['unit_count']:,}" for row in rows]
    assert cells[2::5] == [f"{100 * row['observed_share']:.2f}\N{NO-BREAK SPACE}%" for row in rows]


def test_what_is_expected_after_a_change_is_added_up(written: Written) -> None:
    """The change of an allocation is an epoch of its own, and no mismatch."""
    section = written.section("changed")
    epochs = section.split("<h3>Allocation epochs")[1].split("<h3>Crossovers")[0]
    assert "control 90.00\N{NO-BREAK SPACE}%" in epochs
    assert "control 50.00\N{NO-BREAK SPACE}%" in epochs
    assert "✓" in section.split("</header>")[0]


def test_names_of_others_are_text(written: Written) -> None:
    """No name ends an element or an attribute, in HTML, SVG or the SQL to copy; and no unit is named at all."""
    assert len(re.findall(r"<script", written.text)) == 1
    assert "<img" not in written.text
    assert "unit-1" not in written.text
    shown = EVIL.translate(SIGNS)
    assert shown in html.unescape(written.text)
    assert "\x1b" not in written.text
    assert f"{shown[: NAME_MAX - 1]}…" in texts_of("text", written.section(shown))
    assert [count for (count,) in ask(written, "select count(*) > 50000 from exposures")] == [True]


def test_a_name_may_be_another_name_s_place() -> None:
    """Whatever the variants are called, each stands in its own row of the chart of shares."""
    names = ["name of 1", "name of 2", "name of 0", ">name of 0<"]
    points = [{"series": series, "low": -1.0, "deviation": 0.0, "high": 1.0} for series in range(len(names))]
    assert texts_of("text", draw_deviations(points, names) or "")[-len(names) :] == names


def test_one_rule_alone(written: Written, tmp_path: Path) -> None:
    one = write(written.database, tmp_path / "one.html", rule="flags/lost/rules/r")
    assert one.done.verdicts == {"alarm": 1}
    assert "flags/well" not in one.text


def test_since_a_time(written: Written, tmp_path: Path) -> None:
    """Charts begin there, by hours when it is not long ago; shares are those of the whole experiment."""
    late = write(written.database, tmp_path / "late.html", since=SINCE)
    assert set(re.findall(r"grain = '(\w+)' and starts_at >= (.*?)\n", html.unescape(late.text))) == {
        ("hour", "timestamp '2026-11-13 12:00:00'")
    }
    shares = "<caption>Observed and expected"
    whole, part = (each.section("well").split(shares)[1].split("</table>")[0] for each in (written, late))
    assert whole == part
    none = write(written.database, tmp_path / "none.html", since=NOW)
    assert none.done.verdicts == {}
    assert "There is no experiment yet." in none.text


def test_an_empty_database(database: str, tmp_path: Path) -> None:
    """A page that says so."""
    with Store(database) as store, store.transaction():
        pass
    assert "There is no experiment yet." in write(database, tmp_path / "report.html").text


def test_what_was_never_exposed_and_what_has_one_assignment(database: str, tmp_path: Path) -> None:
    """Neither has shares to draw, and the page says why."""
    make_database(database, Experiment("planned", unit_count=50), Experiment("rollout", shares=(1, 0), unit_count=50))
    with Store(database) as store, store.transaction() as connection:
        connection.execute("delete from exposures where flag = 'flags/planned'")
        connection.execute("delete from allocations where share = 0")
    page = write(database, tmp_path / "report.html")
    assert "Nothing was exposed yet." in page.section("planned")
    assert "<svg" not in page.section("planned").split('class="blocks"')[0].replace('<svg viewBox="0 0 28 12"', "")
    assert page.section("rollout").count("There is one assignment, so nothing to compare.") == 2


def test_a_page_can_be_written_of_a_lake(lake: Any, tmp_path: Path) -> None:
    """The views of a lake are read like those of a file."""
    with Store(lake) as store, store.transaction() as connection:
        plant(connection, Experiment("well", unit_count=500))
    assert write(lake, tmp_path / "report.html").done.verdicts == {"ok": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--rule", "flags/none/rules/r"], 2, "--rule flags/none/rules/r: there is no such rule"),
        (["--out", "{folder}/missing/report.html"], 1, "--out names a file in a folder that exists"),
        (["--out", "{folder}"], 1, "--out names a file in a folder that exists"),
    ],
)
def test_what_cannot_be_done(
    arguments: list[str],
    code: int,
    said: str,
    *,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line that names the thing and the way out, and no file is left."""
    make_database(database, Experiment("well", unit_count=50))
    monkeypatch.setenv("DATABASE", database)
    before = set(tmp_path.iterdir())
    given = ["--out", str(tmp_path / "report.html"), *(each.format(folder=tmp_path) for each in arguments)]
    assert main(["report", *given]) == code
    assert said in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


def test_without_the_extra(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What draws charts is installed by name."""
    make_database(database, Experiment("well", unit_count=50))
    monkeypatch.setenv("DATABASE", database)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert main(["report", "--out", str(tmp_path / "report.html")]) == 2
    assert "pip install 'flagedge[report]'" in capsys.readouterr().err


def test_the_command_says_what_it_wrote(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people, and as JSON; a time with an offset is one of UTC."""
    make_database(database, Experiment("well", unit_count=500))
    monkeypatch.setenv("DATABASE", database)
    page = tmp_path / "report.html"
    page.write_text("before")
    assert main(["report", "--out", str(page)]) == 0
    assert capsys.readouterr().out == f"1 experiment (1 ok) in {page}\n"
    assert page.read_text().startswith("<!doctype html>")
    assert main(["report", "--out", str(page), "--since", "2026-11-13T14:00+02:00", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"verdicts": {"ok": 1}, "byte_count": page.stat().st_size}
    assert "exposures since 2026-11-13 12:00" in page.read_text()


def test_a_time_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, with an example."""
    with pytest.raises(SystemExit) as ended:
        main(["report", "--out", "report.html", "--since", "yesterday"])
    assert ended.value.code == 2
    assert "yesterday is no day or time such as 2026-11-01" in capsys.readouterr().err


@given(st.text())
def test_markup_gives_back_the_text(text: str) -> None:
    """Whatever a name is, it is one text in one element, and one value in one attribute."""
    written = tag("p", text, title=text)
    parser = Texts("p")
    seen: list[Any] = []
    parser.handle_starttag = lambda tag, attrs: (seen.append((tag, attrs)), Texts.handle_starttag(parser, tag, attrs))  # type: ignore[method-assign]
    parser.feed(written)
    parser.close()
    shown = text.translate(SIGNS)
    assert seen == [("p", [("title", shown)])]
    assert parser.found == [shown]


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", tag("b", "<"), [Html("<br>"), None]) == "<p><b>&lt;</b><br></p>"


def test_a_wheel_carries_the_page() -> None:
    """What is not Python is named as data of its package."""
    settings = tomllib.loads((Path(log_consumer.__path__[0]).parent / "pyproject.toml").read_text())
    folder = Path(log_consumer.__path__[0]) / "report"
    carried = settings["tool"]["setuptools"]["package-data"]["log_consumer.report"]
    assert sorted(carried) == sorted(each.name for each in folder.iterdir() if each.suffix not in {".py", ""})
    assert "log_consumer.report" in settings["tool"]["setuptools"]["packages"]
