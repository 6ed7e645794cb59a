"""Sticky assignments as the evaluator knows them: records of who got which variant, and what of them is known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

RecordState = Literal["found", "missing", "unknown", "unread", "unsupported"]


@dataclass(frozen=True, slots=True)
class Record:
    """A sticky assignment: the variant may be empty. As a wish it has no variant, and no rule when any rule will do."""

    unit: str
    materialization: str
    rule: str
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Materializations:
    """What is known of sticky assignments.

    complete: the records are all that matter. partial: there may be more. unread: they could not be read, so what
    depends on them errs.
    """

    records: Collection[Record] = ()
    state: Literal["complete", "partial", "unread"] = "complete"


class RecordFinder:
    """Finds records for one flag, and notes those that would have to be read first."""

    def __init__(self, materializations: Materializations | None) -> None:
        self._known = materializations
        self.wishes: dict[Record, None] = {}
        """In the order in which they came up, each once."""

    def find(self, unit: str, materialization: str, rule: str) -> tuple[RecordState, str]:
        """The variant that a rule recorded for a unit, empty without a record."""
        for record in [] if self._known is None else self._known.records:
            if (record.unit, record.materialization, record.rule) == (unit, materialization, rule):
                return self._state(Record(unit, materialization, rule), is_found=True), record.variant
        return self._state(Record(unit, materialization, rule), is_found=False), ""

    def find_any(self, unit: str, materialization: str) -> RecordState:
        """Whether a unit has a record in a materialization, whatever the rule."""
        records = [] if self._known is None else self._known.records
        is_found = any((each.unit, each.materialization) == (unit, materialization) for each in records)
        return self._state(Record(unit, materialization, ""), is_found=is_found)

    def _state(self, wish: Record, *, is_found: bool) -> RecordState:
        if self._known is None:
            return "unsupported"
        if self._known.state == "unread":
            return "unread"
        if is_found:
            return "found"
        if self._known.state == "complete":
            return "missing"
        self.wishes[wish] = None
        return "unknown"

    @property
    def is_bound(self) -> bool:
        return self._known is not None
