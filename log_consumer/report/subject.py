"""What a section of the page is about: one experiment, its assignments, and the pieces that all parts of it share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from log_consumer.report.assignments import Assignments
from log_consumer.report.gather import Experiment, Row
from log_consumer.report.markup import Html
from log_consumer.report.pieces import write_name, write_sql
from log_consumer.report.tables import Column
from log_consumer.report.wording import name_assignment, shorten_flag, shorten_rule


@dataclass(frozen=True)
class Subject:
    """`alpha` is the p-value below which shares are an alarm."""

    experiment: Experiment
    alpha: float

    @property
    def name(self) -> str:
        """For captions and those who do not see where they are; a flag may have several experiments."""
        flag, rule = self.experiment.flag, self.experiment.rule
        return f"{shorten_flag(flag)}, rule {shorten_rule(rule, flag)}"

    @cached_property
    def assignments(self) -> Assignments:
        return Assignments(self.experiment)

    @property
    def changes(self) -> list[tuple[int, datetime]]:
        """The allocation epochs that began while something was exposed: number and time."""
        since = self.experiment.since
        began = {row["epoch_number"]: row["began_at"] for row in self.rows("epochs")}
        return [(number, at) for number, at in began.items() if number > 1 and since and at >= since]

    def rows(self, question: str) -> list[Row]:
        return self.experiment.answers[question].rows

    def write_sql(self, question: str, about: str) -> Html:
        return write_sql(self.experiment.answers[question], f"{about}, {self.name}")

    def name_of(self, row: Row) -> str:
        """What the assignment of a row with `kind` and `assignment_id` is called."""
        return name_assignment(row["kind"], row["assignment_id"], self.experiment.flag)

    def assignment_column(self) -> Column:
        return Column("Assignment", lambda row: write_name(self.name_of(row)))
