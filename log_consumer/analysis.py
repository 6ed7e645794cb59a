"""The setting ANALYSIS: variables of the view analysis_settings, such as `srm_alpha=0.0001,day_begins=6 hours`.

`as_of` is none of them: it is the time of asking, and a session that wants another sets it itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import duckdb

Value = float | int | timedelta


def _parse_interval(text: str) -> timedelta:
    """As DuckDB reads it. Raises ValueError."""
    try:
        with duckdb.connect() as connection:
            row = connection.execute("select $1::interval", [text]).fetchone()
    except (duckdb.Error, OverflowError) as exc:
        raise ValueError from exc
    if not row or not isinstance(row[0], timedelta):
        raise ValueError
    return row[0]


@dataclass(frozen=True, slots=True)
class Variable:
    """`low` and `high` are the least and the largest value that makes sense; `expected` says all of it to people."""

    parse: Callable[[str], Value]
    low: Value
    high: Value
    expected: str


PART = Variable(float, 0, 1, "a number from 0 to 1")
UNITS = Variable(int, 0, 10**12, "a whole number, 0 or more")
VARIABLES = {
    "day_begins": Variable(
        _parse_interval, timedelta(days=-1), timedelta(days=1), "an interval such as 6 hours, of at most a day"
    ),
    "srm_alpha": PART,
    "srm_warning_alpha": PART,
    "srm_min_units": UNITS,
    "srm_min_expected": Variable(float, 0, 1e12, "a number, 0 or more"),
    "srm_min_deviation": PART,
    "srm_concentration": Variable(float, 1, 1e9, "a number from 1 to 1000000000"),
    "crossover_warning": PART,
    "crossover_alarm": PART,
    "crossover_min_units": UNITS,
    "bot_warning": PART,
    "late_after": Variable(_parse_interval, timedelta(), timedelta(days=365), "an interval such as 2 hours"),
    "late_warning": PART,
    "late_alarm": PART,
    "duplicate_warning": PART,
    "duplicate_alarm": PART,
    "missing_alarm": PART,
    "stale_days": Variable(int, 0, 36_500, "a whole number from 0 to 36500"),
}


def parse_analysis(text: str) -> tuple[dict[str, Value], list[str]]:
    """Values by name, with a type of their own, and what is wrong with the others."""
    values: dict[str, Value] = {}
    problems = []
    for name, value in (_split(pair) for pair in text.split(",") if pair.strip()):
        variable = VARIABLES.get(name)
        if variable is None:
            problems.append(f"there is no {name or 'variable without a name'} (but {', '.join(VARIABLES)})")
        elif name in values:
            problems.append(f"{name} is given twice")
        elif (parsed := _parse(variable, value)) is None:
            problems.append(f"{name} must be {variable.expected}")
        else:
            values[name] = parsed
    return values, problems


def set_variables(connection: duckdb.DuckDBPyConnection, values: Mapping[str, Value]) -> None:
    """For the session; its SQL may still set others."""
    for name, value in values.items():
        connection.execute(f"set variable {name} = $value", {"value": value})


def _split(pair: str) -> tuple[str, str]:
    name, _, value = pair.partition("=")
    return name.strip(), value.strip()


def _parse(variable: Variable, text: str) -> Value | None:
    try:
        value = variable.parse(text)
    except ValueError:
        return None
    # Only values of one type are compared, which mypy cannot know.
    return value if variable.low <= value <= variable.high else None  # type: ignore[operator]
