"""Tables: a head, rows, and nothing that a screen reader has to guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from log_consumer.report.gather import Row
from log_consumer.report.markup import Html, Part, join, tag
from log_consumer.report.wording import show_time

ROWS_MAX = 60
NUMBER, SHORT = "number", "short"


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and what a row has below it. Numbers stand to the right; what is `short` is not broken into lines."""

    title: str
    show: Callable[[Row], Part]
    look: str | None = None


def words(title: str, key: str, show: Callable[[Any], str] = str) -> Column:
    return Column(title, lambda row: show(row[key]))


def number(title: str, key: str, show: Callable[[Any], str]) -> Column:
    return Column(title, lambda row: show(row[key]), NUMBER)


def time(title: str, key: str, show: Callable[[Any], str] = show_time) -> Column:
    return Column(title, lambda row: show(row[key]), SHORT)


def write_table(
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    class_: str | None = None,
    rows_max: int | None = ROWS_MAX,
) -> Html:
    """The last rows, all with `rows_max` None; a note says how many there are when there are more."""
    shown = rows if rows_max is None else rows[-rows_max:]
    head = tag("tr", *(tag("th", each.title, scope="col", class_=each.look) for each in columns))
    body = [tag("tr", *_write_cells(columns, row)) for row in shown]
    note = f"The last {len(shown)} of {len(rows):,} rows; the SQL gives all." if len(rows) > len(shown) else None
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body), class_=class_)
    return join(
        # A region that scrolls must be reached by keys.
        tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption),
        tag("p", note, class_="note") if note else None,
    )


def _write_cells(columns: Sequence[Column], row: Row) -> list[Html]:
    first, *others = columns
    cells = [tag("th", first.show(row), scope="row", class_=first.look)]
    return cells + [tag("td", each.show(row), class_=each.look, data_title=each.title) for each in others]
