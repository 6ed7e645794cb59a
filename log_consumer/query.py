"""SQL over what was loaded: a read-only look at the database, as a table, CSV or JSON."""

from __future__ import annotations

import csv
import json
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb

from flagedge.errors import FlagedgeError
from log_consumer.analysis import Value
from log_consumer.databases import Database
from log_consumer.engine import Engine, one_line
from log_consumer.printable import printable
from log_consumer.store import Reader

FORMATS = ("table", "csv", "json")
# Longer values are cut in a table, and only there.
CELL_WIDTH = 48
# With one of these, spreadsheets take a text for a formula; anybody who resolves can choose a targeting key.
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


class QueryError(FlagedgeError):
    """The SQL is wrong, or asks for what a read-only look cannot do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The last statement's result: names may repeat, rows are as long as names."""

    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    numeric: tuple[bool, ...]


def query(
    database: Database,
    sql: str,
    *,
    engine: Engine | None = None,
    lock_wait_s: float = 10.0,
    analysis: Mapping[str, Value] | None = None,
) -> Answer:
    """Run `sql` read-only. Raises LocalError when the database cannot be had, QueryError when the SQL fails."""
    reading = Reader(database, engine=engine, lock_wait_s=lock_wait_s, analysis=analysis)
    with reading as reader, reader.look() as connection:
        try:
            relation = connection.sql(sql)
            if relation is None:
                return Answer((), [], ())
            names, types = tuple(relation.columns), [str(kind) for kind in relation.types]
            # Python would need another package to hold these.
            columns = [f"#{i}::varchar" if "TIME ZONE" in kind else f"#{i}" for i, kind in enumerate(types, 1)]
            rows = relation.project(", ".join(columns)).fetchall()
        except (duckdb.Error, RuntimeError) as exc:
            raise QueryError(one_line(exc)) from exc
    return Answer(names, rows, tuple(_is_numeric(kind) for kind in types))


def format_answer(answer: Answer, form: str, *, to_terminal: bool = False) -> str:
    """The answer as text with its last line ended, or "" when the statement has no result.

    What could move a terminal's cursor is shown as an escape: in a table and in JSON always, in CSV `to_terminal`.
    """
    if not answer.names:
        return ""
    if form == "csv":
        return _format_csv(answer, shows=to_terminal)
    return {"table": _format_table, "json": _format_json}[form](answer)


def _format_table(answer: Answer) -> str:
    lines = [[_cell(name) for name in answer.names], *([_cell(value) for value in row] for row in answer.rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["─" * width for width in widths])
    return "".join(_align(line, widths, answer.numeric) + "\n" for line in lines)


def _align(line: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    cells = []
    for text, width, right in zip(line, widths, numeric, strict=True):
        gap = " " * (width - _width(text))
        cells.append(gap + text if right else text + gap)
    return "  ".join(cells).rstrip()


def _cell(value: object) -> str:
    """A value on one line, with what could move the cursor shown as an escape, cut to CELL_WIDTH."""
    text = "" if value is None else str(value)
    text = printable(text[: CELL_WIDTH + 1])
    return text if _width(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + "…"


def _width(text: str) -> int:
    """Columns on a terminal: East Asian wide characters and emoji take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def _format_csv(answer: Answer, *, shows: bool) -> str:
    """With whole values, but for a text that could be a formula: it has an apostrophe before it."""

    def write(value: object) -> object:
        if not isinstance(value, str):
            return value
        text = f"'{value}" if value.startswith(FORMULA_SIGNS) else value
        return printable(text) if shows else text

    lines: list[str] = []
    # A cell is in quotes if it has what ends a line, and a lone carriage return ends one too for many who read CSV.
    writer = csv.writer(_Sink(lines.append), lineterminator="\r\n")
    writer.writerows([write(value) for value in row] for row in (answer.names, *answer.rows))
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


@dataclass(frozen=True, slots=True)
class _Sink:
    """Takes each line of a CSV writer."""

    write: Callable[[str], object]


def _format_json(answer: Answer) -> str:
    """A list of objects, one a line; a repeated name keeps its last value."""
    objects = (_to_json(dict(zip(answer.names, row, strict=True))) for row in answer.rows)
    return "[" + ",\n ".join(_dump(each) for each in objects) + "]\n"


def _dump(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def _to_json(value: Any) -> Any:
    match value:
        case dict():
            return {str(key): _to_json(each) for key, each in value.items()}
        case list() | tuple():
            return [_to_json(each) for each in value]
        case float() if not math.isfinite(value):
            return None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime() | date():
            return value.isoformat()
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def _is_numeric(kind: str) -> bool:
    return kind.endswith("INT") or kind in {"INTEGER", "UINTEGER", "DOUBLE", "FLOAT"} or kind.startswith("DECIMAL")
