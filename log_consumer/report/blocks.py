"""What is told of an experiment in words and tables: checks, epochs, crossovers, leaks, parts of the units, delays."""

from __future__ import annotations

from log_consumer.report.gather import Row
from log_consumer.report.markup import Html, tag
from log_consumer.report.pieces import write_badge, write_block, write_name, write_numbers
from log_consumer.report.subject import Subject
from log_consumer.report.tables import NUMBER, Column, number, time, words, write_table
from log_consumer.report.wording import (
    name_assignment,
    show_count,
    show_day,
    show_etag,
    show_p,
    show_points,
    show_seconds,
    show_share,
)

CAUSES = {
    "same_allocation": "one allocation gave several: a defect",
    "allocation_change": "the allocation was changed",
    "unknown": "the allocation is not known",
}
STANDINGS = {"zero_share": "its share is 0", "outside": "it is not in the allocation"}


def write_blocks(subject: Subject) -> Html:
    """Those without a table stand beside each other."""
    writers = (_checks, _epochs, _crossovers, _leaks, _slices, _lateness)
    return tag("div", *(write(subject) for write in writers), class_="blocks")


def _checks(subject: Subject) -> Html:
    columns = [
        words("Check", "name"),
        Column("Status", lambda row: write_badge(row["status"])),
        words("What was found", "reason"),
    ]
    table = write_table(f"Checks, {subject.name}", columns, subject.rows("checks"))
    return write_block("Checks", "Each of them by itself.", table, subject.write_sql("checks", "the checks"))


def _epochs(subject: Subject) -> Html:
    rows: dict[int, Row] = {}
    for row in subject.rows("epochs"):
        given = f"{subject.name_of(row)} {show_share(row['share'])}"
        epoch = rows.setdefault(row["epoch_number"], {**row, "shares": []})
        epoch["shares"].append(given)
    columns = [
        words("Epoch", "epoch_number"),
        time("Began (UTC)", "began_at"),
        Column("State", lambda row: tag("code", show_etag(row["first_state_etag"]))),
        Column("Shares", lambda row: tag("ul", *(tag("li", write_name(each)) for each in row["shares"]))),
        Column("Compared", lambda row: "yes" if row["is_comparable"] else "no: earlier units were left over"),
    ]
    says = "The shares that were in force. Every unit is compared with those of the state that decided it."
    if not rows:
        return write_block(
            "Allocation epochs", "No allocation of this rule is known.", subject.write_sql("epochs", "epochs")
        )
    table = write_table(f"Allocation epochs, {subject.name}", columns, list(rows.values()))
    return write_block("Allocation epochs", says, table, subject.write_sql("epochs", "the allocation epochs"))


def _crossovers(subject: Subject) -> Html:
    rows, sql = subject.rows("crossovers"), subject.write_sql("crossovers", "the crossovers")
    if not rows:
        return write_block("Crossovers", "No unit was given several assignments.", sql)
    columns = [
        Column("From one to the other", lambda row: write_name(_path_of(subject, row["assignment_ids"]))),
        Column("Cause", lambda row: CAUSES.get(row["cause"], row["cause"])),
        number("Units", "unit_count", show_count),
        time("First (UTC)", "first_crossed_at"),
        time("Last (UTC)", "last_crossed_at"),
    ]
    table = write_table(f"Crossovers, {subject.name}", columns, rows)
    return write_block("Crossovers", "Units that were given several assignments, the most frequent first.", table, sql)


def _path_of(subject: Subject, assignment_ids: list[str]) -> str:
    return " → ".join(name_assignment("variant", each, subject.experiment.flag) for each in assignment_ids)


def _leaks(subject: Subject) -> Html:
    rows, sql = subject.rows("leaks"), subject.write_sql("leaks", "the leaks")
    if not rows:
        return write_block("Leaks", "Nobody has an assignment that nobody should have.", sql)
    columns = [
        subject.assignment_column(),
        Column("Why nobody should", lambda row: STANDINGS.get(row["standing"], row["standing"])),
        Column("Epoch", lambda row: show_count(row["epoch_number"]), NUMBER),
        number("Units", "unit_count", show_count),
        number("From before", "carried_count", show_count),
        time("First (UTC)", "first_hour"),
        time("Last (UTC)", "last_hour"),
    ]
    table = write_table(f"Leaks, {subject.name}", columns, rows)
    return write_block("Leaks", "Units with an assignment that nobody should have.", table, sql)


def _slices(subject: Subject) -> Html:
    rows, sql = subject.rows("slices"), subject.write_sql("slices", "the parts")
    if not any(row["verdict"] in {"mismatch", "warning"} for row in rows):
        return write_block("Parts of the units", "No client, SDK, country, source or epoch is off by itself.", sql)
    columns = [
        words("Part", "dimension"),
        Column("Value", lambda row: write_name(row["value"] or "not known")),
        number("Units", "unit_count", show_count),
        number("Off by", "max_deviation", show_points),
        number("p-value", "corrected_p_value", show_p),
        words("Verdict", "verdict"),
    ]
    table = write_table(f"The sample ratio of parts, {subject.name}", columns, rows)
    says = "The sample ratio of each part, the least likely first: where a mismatch comes from."
    return write_block("Parts of the units", says, table, sql)


def _lateness(subject: Subject) -> Html:
    rows, sql = subject.rows("lateness"), subject.write_sql("lateness", "delivery")
    if not rows:
        return write_block("Delivery", "Nothing was delivered.", sql)
    columns = [
        time("Day (UTC)", "day", show_day),
        number("Exposures", "exposure_count", show_count),
        number("Late", "late_count", show_count),
        number("Mean delay", "mean_delay_s", show_seconds),
        number("Longest delay", "max_delay_s", show_seconds),
    ]
    table = write_table(f"Delivery, {subject.name}", columns, rows)
    return write_block("Delivery", _sum_up_lateness(rows), write_numbers(table, "delivery"), sql)


def _sum_up_lateness(rows: list[Row]) -> str:
    count, late = (sum(row[key] for row in rows) for key in ("exposure_count", "late_count"))
    mean_s = sum(row["mean_delay_s"] * row["exposure_count"] for row in rows) / count
    longest_s = max(row["max_delay_s"] for row in rows)
    return (
        f"{show_count(late)} of {show_count(count)} exposures ({show_share(late / count)}) landed late. "
        f"It took {show_seconds(mean_s)} in the mean, {show_seconds(longest_s)} at the most."
    )
