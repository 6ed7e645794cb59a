"""The charts of an experiment, each with the numbers and the SQL behind it."""

from __future__ import annotations

from log_consumer.report import charts
from log_consumer.report.gather import GRAINS, STEPS, Row
from log_consumer.report.markup import Html, tag
from log_consumer.report.pieces import write_figure, write_numbers
from log_consumer.report.subject import Subject
from log_consumer.report.tables import number, time, words, write_table
from log_consumer.report.wording import show_count, show_p, show_points, show_share

BOUNDS = {"low": "low_share", "deviation": "observed_share", "high": "high_share"}


def write_figures(subject: Subject) -> Html:
    """Four charts, two beside each other where there is room."""
    figures = (_exposures(subject), _units(subject), _shares(subject), _p_values(subject))
    return tag("div", *figures, class_="figures")


def _exposures(subject: Subject) -> Html:
    rows, about = subject.rows("exposures"), "exposures over time"
    points = subject.assignments.count_points(rows)
    columns = [
        time("From (UTC)", "starts_at"),
        subject.assignment_column(),
        number("Exposures", "exposure_count", show_count),
    ]
    return write_figure(
        "Exposures over time",
        f"Applied flags {GRAINS[subject.experiment.grain]}, by assignment; the first of the legend is on top.",
        charts.draw_exposures(points, step=STEPS[subject.experiment.grain], epochs=subject.changes),
        write_numbers(write_table(f"Exposures over time, {subject.name}", columns, rows), about),
        subject.write_sql("exposures", about),
        alternative=f"Exposures by {subject.experiment.grain}: {_sum_up(subject, rows)} in all.",
    )  # fmt: skip


def _units(subject: Subject) -> Html:
    rows, about = subject.rows("units"), "cumulative units"
    points = subject.assignments.total_points(rows, STEPS[subject.experiment.grain])
    last = {point["series"]: point["count"] for point in points}
    said = ", ".join(f"{subject.assignments.names[series]} {show_count(count)}" for series, count in last.items())
    columns = [
        time("From (UTC)", "starts_at"),
        subject.assignment_column(),
        number("New units", "new_unit_count", show_count),
        number("All units", "cumulative_unit_count", show_count),
    ]
    return write_figure(
        "Cumulative units",
        "Units by their first exposure, added up.",
        charts.draw_units(points, step=STEPS[subject.experiment.grain], epochs=subject.changes),
        write_numbers(write_table(f"Cumulative units, {subject.name}", columns, rows), about),
        subject.write_sql("units", about),
        alternative=f"Cumulative units at the end: {said}.",
    )


def _shares(subject: Subject) -> Html:
    rows, about = subject.rows("shares"), "observed and expected shares"
    compared = [row for row in rows if row["observed_share"] is not None]
    points = [
        {"series": subject.assignments.series(row)}
        | {key: 100 * (row[column] - row["expected_share"]) for key, column in BOUNDS.items()}
        for row in compared
    ]  # fmt: skip
    said = ", ".join(
        f"{subject.name_of(row)} {show_share(row['observed_share'])} of {show_share(row['expected_share'])} expected"
        for row in compared
    )
    columns = [
        subject.assignment_column(),
        number("Units", "unit_count", show_count),
        number("Expected units", "expected_count", show_count),
        number("Share", "observed_share", show_share),
        number("Expected share", "expected_share", show_share),
        number("Off by", "deviation", show_points),
    ]
    return write_figure(
        "Observed against expected shares",
        "Percentage points off what the allocations in force would give, with 95\N{NO-BREAK SPACE}% intervals.",
        charts.draw_deviations(points, subject.assignments.names) if len(points) > 1 else None,
        write_table(f"Observed and expected shares, {subject.name}", columns, rows),
        subject.write_sql("shares", about),
        alternative=f"Observed shares: {said}.",
        without=_say_why_none(subject),
    )


def _p_values(subject: Subject) -> Html:
    rows, about = subject.rows("srm_over_time"), "the sample ratio over time"
    points = [{"at": row["hour"], "p": row["p_value"]} for row in rows]
    columns = [
        time("Hour (UTC)", "hour"),
        number("Units", "unit_count", show_count),
        number("Off by", "max_deviation", show_points),
        number("p-value", "p_value", show_p),
        words("Verdict", "verdict"),
    ]
    last = f"{show_p(rows[-1]['p_value'])} at the end" if rows else "none"
    return write_figure(
        "Sample ratio over time",
        "The p-value for the shares being as allocated. It holds however often one looks.",
        charts.draw_p_values(points, alpha=subject.alpha, epochs=subject.changes),
        write_numbers(write_table(f"The sample ratio over time, {subject.name}", columns, rows), about),
        subject.write_sql("srm_over_time", about),
        alternative=f"The p-value of the sample ratio: {last}; an alarm below {subject.alpha:g}.",
        without=_say_why_none(subject),
    )


def _say_why_none(subject: Subject) -> str:
    has_one = subject.experiment.health["assignment_count"] == 1
    return "There is one assignment, so nothing to compare." if has_one else "There is nothing to compare yet."


def _sum_up(subject: Subject, rows: list[Row]) -> str:
    sums: dict[str, int] = {}
    for row in rows:
        name = subject.assignments.name(row)
        sums[name] = sums.get(name, 0) + row["exposure_count"]
    return ", ".join(f"{name} {show_count(count)}" for name, count in sums.items())
