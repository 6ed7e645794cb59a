"""The top of the page: every experiment's health, and that of the log as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from log_consumer.report import charts
from log_consumer.report.gather import GRAINS, STEPS, Answer, Experiment, Row
from log_consumer.report.markup import Html, tag
from log_consumer.report.pieces import write_badge, write_figure, write_name, write_numbers, write_sql
from log_consumer.report.tables import Column, number, time, words, write_table
from log_consumer.report.wording import shorten_flag, shorten_rule, show_count, show_day, show_p


def write_overview(experiments: Sequence[Experiment], answer: Answer) -> Html:
    """A row for each experiment, which leads to its section; `answer` is that of `experiments.sql`."""
    anchors = {each.rule: anchor_of(number) for number, each in enumerate(experiments, 1)}
    columns = [
        Column("Experiment", lambda row: _write_link(row, anchors[row["rule"]])),
        Column("Health", lambda row: write_badge(row["verdict"])),
        number("Units", "unit_count", show_count),
        number("p-value", "p_value", show_p),
        number("Score", "score", str),
        time("Since", "first_at", show_day),
        Column("In words", lambda row: tag("span", row["reason"], class_="reason")),
    ]
    rows = [each.health for each in experiments]
    table = write_table("Every experiment and its health", columns, rows, rows_max=None, class_="overview")
    return tag(
        "section",
        tag("h2", "All experiments", id="overview", class_="unseen"),
        _write_tally([row["verdict"] for row in rows]),
        table if rows else tag("p", "There is no experiment yet.", class_="nothing"),
        write_sql(answer, "the overview"),
        aria_labelledby="overview",
    )


def write_delivery(delivery: Answer, checks: Answer, *, grain: str) -> Html:
    """Whether all messages of the log arrived; rows of `delivery` are hours or days, as `grain` says."""
    points = [
        {"at": row["starts_at"], "sent": row["expected_count"], "missing": row["missing_count"]}
        for row in delivery.rows
    ]
    columns = [
        time("From (UTC)", "starts_at"),
        number("Sent", "expected_count", show_count),
        number("Landed", "landed_count", show_count),
        number("Missing", "missing_count", show_count),
        number("Redelivered", "duplicate_count", show_count),
        number("Late", "late_count", show_count),
        number("Unconfirmed", "unconfirmed_count", show_count),
    ]
    sent, missing = (show_count(sum(row[key] for row in delivery.rows)) for key in ("expected_count", "missing_count"))
    title = f"Messages {GRAINS[grain]}"
    figure = write_figure(
        title,
        f"What the Worker sent. A triangle marks {GRAINS[grain]} of which some never arrived.",
        charts.draw_delivery(points, step=STEPS[grain]),
        write_numbers(write_table(title, columns, delivery.rows), "delivery"),
        write_sql(delivery, "delivery"),
        alternative=f"{sent} messages were sent, {missing} of them are missing.",
    )
    found = [
        words("Check", "name"),
        Column("Status", lambda row: write_badge(row["status"])),
        words("What was found", "reason"),
    ]
    return tag(
        "section",
        tag("h2", "The log", id="log"),
        tag(
            "div",
            tag(
                "div", write_table("Checks of the log", found, checks.rows), write_sql(checks, "the checks of the log")
            ),
            figure,
            class_="figures",
        ),
        aria_labelledby="log",
        class_="log",
    )


def anchor_of(number: int) -> str:
    """Names of others have no place in a link."""
    return f"experiment-{number}"


def _write_link(row: Row, anchor: str) -> list[Html]:
    link = tag("a", write_name(shorten_flag(row["flag"])), href=f"#{anchor}")
    return [link, tag("span", "rule ", write_name(shorten_rule(row["rule"], row["flag"])), class_="rule")]


def _write_tally(verdicts: Sequence[str]) -> Html:
    counts = Counter(verdicts)
    entries = [
        tag("li", tag("strong", str(counts[status])), " ", write_badge(status))
        for status in ("alarm", "warning", "unknown", "ok")
    ]
    return tag("ul", *entries, class_="tally", aria_label="Experiments by health")
