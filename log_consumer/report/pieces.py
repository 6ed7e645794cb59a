"""The pieces that the page is put together from."""

from __future__ import annotations

from log_consumer.report.charts import DASHES, describe
from log_consumer.report.gather import Answer
from log_consumer.report.markup import Html, Part, join, tag

SIGNS = {"ok": "✓", "warning": "!", "alarm": "✕", "unknown": "?"}


def write_badge(status: str) -> Html:
    """A status as a sign and a word; colour is the third way to see it."""
    sign = tag("span", SIGNS.get(status, "?"), class_="sign", aria_hidden="true")
    return tag("span", sign, status, class_=f"badge {status if status in SIGNS else 'unknown'}")


def write_name(text: str) -> Html:
    """A name of somebody else's making: whichever way it is written, it turns nothing around it."""
    return tag("bdi", text)


def write_sql(answer: Answer, about: str) -> Html:
    """The SQL that was run, to copy. The button is there when there is a script to serve it."""
    button = tag("button", "Copy", type="button", class_="copy", hidden=True, aria_label=f"Copy the SQL of: {about}")
    return tag(
        "details",
        tag("summary", "SQL", tag("span", f" of {about}", class_="unseen")),
        tag("div", tag("pre", tag("code", answer.sql.strip()), tabindex=0), button, class_="sql"),
        class_="query",
    )


def write_figure(
    title: str, says: str, chart: Html | None, *below: Part, alternative: str, without: str = "Nothing to draw yet."
) -> Html:
    """A chart below its title and what it says, above what lies behind it; `without` stands in for it."""
    drawn = describe(chart, alternative) if chart else tag("p", without, class_="nothing")
    return tag("figure", tag("figcaption", tag("h3", title), tag("p", says)), drawn, *below)


def write_numbers(table: Html, about: str) -> Html:
    """A table behind a chart, closed."""
    return tag(
        "details", tag("summary", "Numbers", tag("span", f" of {about}", class_="unseen")), table, class_="numbers"
    )


def write_block(title: str, says: Part, *below: Part) -> Html:
    """Something that is told in words and a table."""
    return tag("section", tag("h3", title), tag("p", says), *below, class_="block")


def write_legend(names: list[str]) -> Html:
    """A stroke for each assignment, in its colour and its dashes."""
    return tag(
        "ul", *(_write_entry(number, name) for number, name in enumerate(names)), class_="legend", aria_label="Legend"
    )


def _write_entry(number: int, name: str) -> Html:
    look = number % len(DASHES)
    dashes = " ".join(map(str, DASHES[look]))
    stroke = tag("line", x1=1, y1=6, x2=27, y2=6, stroke=f"var(--s{look + 1})", stroke_width=4, stroke_dasharray=dashes)
    return tag("li", tag("svg", stroke, viewBox="0 0 28 12", aria_hidden="true"), join(write_name(name)))
