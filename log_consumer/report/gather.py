"""The questions of the page and their answers. The text of a question is what is run, and what the page shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb

from log_consumer.engine import fetch_one, quote
from log_consumer.migrate import SQL
from log_consumer.report.markup import SIGNS

Row = dict[str, Any]
# A longer experiment is drawn by days.
HOURS_MAX = timedelta(days=4)
STEPS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
GRAINS = {"hour": "an hour", "day": "a day"}
# What a page shows as a sign would be copied as one, and a zero byte ends a statement.
_UNSHOWN = frozenset(map(chr, SIGNS))
_SPLIT = re.compile(f"([{re.escape(''.join(sorted(_UNSHOWN)))}])")


@dataclass(frozen=True, slots=True)
class Answer:
    """The SQL that was run, and its rows by column."""

    sql: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A row of `experiments.sql`, and the answers about this rule by the names of their questions.

    `grain` is hour or day, of exposures and units; `since` is where its charts begin, None when nothing was exposed.
    """

    health: Row
    grain: str
    since: datetime | None
    answers: dict[str, Answer]

    @property
    def flag(self) -> str:
        return str(self.health["flag"])

    @property
    def rule(self) -> str:
        return str(self.health["rule"])


QUESTIONS = (
    "checks",
    "exposures",
    "units",
    "shares",
    "srm_over_time",
    "slices",
    "crossovers",
    "leaks",
    "epochs",
    "lateness",
)


def ask(connection: duckdb.DuckDBPyConnection, name: str, **values: str | datetime) -> Answer:
    """Run a question of log_consumer/sql/report; a `$name` in it is one of `values`. Raises duckdb.Error."""
    text = (SQL / "report" / f"{name}.sql").read_text(encoding="utf-8")
    sql = re.sub(r"\$(\w+)", lambda match: _write_literal(values[match[1]]), text)
    found = connection.execute(sql)
    names = [column[0] for column in found.description or ()]
    return Answer(sql, [dict(zip(names, row, strict=True)) for row in found.fetchall()])


def gather_experiment(
    connection: duckdb.DuckDBPyConnection, health: Row, *, since: datetime | None, now: datetime
) -> Experiment:
    """All answers about one rule; what is drawn over time begins with `since`. Raises duckdb.Error."""
    first_at, last_at = health["first_at"], health["last_at"]
    begins = max(filter(None, (since, first_at)), default=None)
    grain = choose_grain(begins, last_at)
    if begins and grain == "day":
        begins = _find_day(connection, begins)
    values = {"rule": str(health["rule"]), "grain": grain, "since": begins or now}
    return Experiment(health, grain, begins, {name: ask(connection, name, **values) for name in QUESTIONS})


def _find_day(connection: duckdb.DuckDBPyConnection, moment: datetime) -> datetime:
    """The beginning of its day."""
    day: datetime
    (day,) = fetch_one(connection, "select day_of($moment::timestamp)", {"moment": moment})
    return day


def choose_grain(begins: datetime | None, until: datetime) -> str:
    """What is drawn from then until then has a point for each hour, or each day."""
    return "hour" if begins is None or until - begins <= HOURS_MAX else "day"


def select_experiments(rows: Sequence[Row], *, rule: str | None, since: datetime | None) -> list[Row]:
    """Those with this rule, and with exposures since then."""
    return [
        row
        for row in rows
        if (rule is None or row["rule"] == rule)
        and (since is None or (row["last_at"] is not None and row["last_at"] >= since - timedelta(hours=1)))
    ]


def _write_literal(value: str | datetime) -> str:
    if isinstance(value, datetime):
        return f"timestamp '{value.isoformat(sep=' ')}'"
    parts = [f"chr({ord(part)})" if part in _UNSHOWN else quote(part) for part in _SPLIT.split(value) if part]
    return " || ".join(parts) or quote("")
