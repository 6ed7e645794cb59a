"""The assignments of an experiment: their order, which is that of their colours, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from log_consumer.report.gather import Experiment, Row
from log_consumer.report.wording import name_assignment

Key = tuple[str, str | None]


class Assignments:
    """Everything that the rule gave or was to give, those with a share first; `names` may not repeat."""

    def __init__(self, experiment: Experiment) -> None:
        answers, flag = experiment.answers, experiment.flag
        rows = [*answers["shares"].rows, *answers["units"].rows, *answers["epochs"].rows]
        keys = dict.fromkeys(_key(row) for row in rows if row["kind"] != "unassigned")
        self._numbers = {key: number for number, key in enumerate(keys)}
        names = [name_assignment(*key, flag) for key in keys]
        seen = Counter(names)
        self.names = [
            name if seen[name] == 1 else f"{name} ({kind}, {assignment_id or 'no id'})"
            for name, (kind, assignment_id) in zip(names, keys, strict=True)
        ]

    def name(self, row: Row) -> str:
        """What the assignment of a row with `kind` and `assignment_id` is called."""
        return self.names[self._numbers[_key(row)]]

    def count_points(self, rows: Iterable[Row]) -> list[dict[str, Any]]:
        """Exposures of every series at every moment."""
        by_time, shown = self._arrange(rows)
        return [
            {"at": at, "series": series, "count": found[series]["exposure_count"] if series in found else 0}
            for at, found in by_time.items()
            for series in shown
        ]

    def total_points(self, rows: Iterable[Row], step: timedelta) -> list[dict[str, Any]]:
        """Units of every series at every moment, from the beginning of the first step to the end of the last."""
        by_time, shown = self._arrange(rows)
        totals: dict[int, int] = {}
        for found in by_time.values():
            for series, row in found.items():
                totals.setdefault(series, row["cumulative_unit_count"] - row["new_unit_count"])
        first, last = min(by_time, default=None), max(by_time, default=None)
        if first is None or last is None:
            return []
        points = []
        for at in (first + number * step for number in range((last - first) // step + 2)):
            points += [{"at": at, "series": series, "count": totals[series]} for series in shown]
            totals |= {series: row["cumulative_unit_count"] for series, row in by_time.get(at, {}).items()}
        return points

    def series(self, row: Row) -> int:
        return self._numbers[_key(row)]

    def _arrange(self, rows: Iterable[Row]) -> tuple[dict[datetime, dict[int, Row]], list[int]]:
        """Rows by time and series, and which series there are. Rows come in the order of their times."""
        by_time: dict[datetime, dict[int, Row]] = {}
        for row in rows:
            by_time.setdefault(row["starts_at"], {})[self.series(row)] = row
        return by_time, sorted({series for found in by_time.values() for series in found})


def _key(row: Row) -> Key:
    return row["kind"], row["assignment_id"] or None
