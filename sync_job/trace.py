"""What an evaluation did, step by step: a tree of values that text and JSON are made of.

The evaluator decides without it. It leaves notes on its way; notes that are off keep nothing and make nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, ParamSpec

from sync_job.criteria import Truth

P = ParamSpec("P")
_EXACT_MAX = 2.0**53


class Ending(enum.Enum):
    """How a rule ended. All but the last five pass the flag on to the next rule."""

    NOT_REACHED = "not reached"
    """An earlier rule ended the flag."""
    OTHER_ENVIRONMENT = "other environment"
    """Not a rule of the credential's environments."""
    NO_UNIT = "no unit"
    NO_ASSIGNMENTS = "no assignments"
    """The rule has no assignment spec."""
    NO_RECORD = "no record"
    """A sticky rule for those alone who have a record."""
    NOT_IN_SEGMENT = "not in segment"
    NOT_UNDERSTOOD = "not understood"
    NO_BUCKET = "no bucket"
    """The unit's bucket belongs to no assignment."""
    UNSET = "unset"
    """The assignment says nothing."""
    UNDECIDED = "undecided"
    """Depends on records that are not known."""
    HELD_BACK = "held back"
    """Would match, but it is not known whether an earlier rule does."""
    FELL_THROUGH = "fell through"
    MATCHED = "matched"
    KEPT = "kept"
    """Matched by the record of an earlier assignment."""
    INVALID_UNIT = "invalid unit"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    """Needs sticky assignments, which are not bound."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an evaluation."""

    def to_json(self) -> dict[str, Any]:
        """`step` names its kind; then its facts, nested steps as they are nested."""
        name = type(self).__name__.removesuffix("Step").lower()
        return {"step": name} | {field.name: json_of(getattr(self, field.name)) for field in fields(self)}


def json_of(value: Any) -> Any:
    """Plain data for `json.dumps`: whole numbers, which contexts hold as floats, without a fraction."""
    if isinstance(value, Step):
        return value.to_json()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [json_of(item) for item in value]
    if isinstance(value, Mapping):
        return {key: json_of(item) for key, item in value.items()}
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_MAX and str(value) != "-0.0":
        return int(value)
    return value


@dataclass(frozen=True, slots=True)
class UnitStep(Step):
    """The rule's selector was looked up in the context."""

    attribute: str
    is_blank_selector: bool
    is_present: bool
    value: Any
    unit: str | None
    problem: str
    """Why the value cannot be a unit; empty when it is one, or is missing."""


@dataclass(frozen=True, slots=True)
class AttributeStep(Step):
    """A criterion on a value of the context. `test` is the criterion's in the plan's spelling (docs/plan.md)."""

    attribute: str
    is_present: bool
    value: Any
    read_as: tuple[str, ...]
    """What was read out of the value, where that is not the value itself."""
    over: str
    """any, all or empty."""
    operator: str
    """Empty for a criterion that is not understood."""
    operand: Any
    truth: Truth


@dataclass(frozen=True, slots=True)
class CombinationStep(Step):
    """and, or, not; true and false for everybody and nobody."""

    operator: Literal["and", "or", "not", "true", "false"]
    steps: tuple[Step, ...]
    skipped_count: int
    """Operands that were not looked at, as the first ones decided."""
    truth: Truth


@dataclass(frozen=True, slots=True)
class SegmentStep(Step):
    """A unit was looked for in a segment: its targeting, then its bitset."""

    segment: str
    steps: tuple[Step, ...]
    is_cycle: bool
    """Met again on its own way, where it counts as false."""
    truth: Truth


@dataclass(frozen=True, slots=True)
class BitStep(Step):
    """The unit's bit in a segment's bitset; without a unit, whether all bits are set."""

    bucket: int | None
    bucket_count: int
    is_in: bool


@dataclass(frozen=True, slots=True)
class MaterializedStep(Step):
    """Whether a unit is in a materialized segment, and who said so."""

    materialization: str
    unit: str | None
    source: Literal["bloom filter", "records", "no unit"]
    truth: Truth


@dataclass(frozen=True, slots=True)
class RecordStep(Step):
    """A sticky rule asked for the unit's record."""

    materialization: str
    unit: str
    state: Literal["found", "missing", "unknown", "unread", "unsupported"]
    variant: str
    """As recorded, which may be empty; empty without a record."""
    ignore_targeting: bool
    steps: tuple[Step, ...]
    """The segment's targeting, where a record alone does not do."""
    truth: Truth
    """Whether the rule matches by the record."""


@dataclass(frozen=True, slots=True)
class BucketStep(Step):
    """The unit's bucket among those of a rule's assignments."""

    key: str
    bucket: int
    bucket_count: int
    range: tuple[int, int] | None
    """From, up to: the part of the buckets that the unit's lies in; None outside all of them."""
    assignment_id: str | None
    """Of the assignment that owns the range."""
    shares: tuple[tuple[int, int, str], ...]
    """From, up to, assignment id: all that is owned by one."""


@dataclass(frozen=True, slots=True)
class AssignmentStep(Step):
    """What the unit got."""

    assignment_id: str
    kind: str
    variant: str
    is_for_all: bool
    """The assignment has all buckets, so none was looked for."""


@dataclass(frozen=True, slots=True)
class RuleStep(Step):
    """One rule, from its unit to how it ended."""

    rule: str
    segment: str
    steps: tuple[Step, ...]
    ending: Ending
    problem: str
    """What went wrong, where something did."""


class Notes:
    """The steps of one level, in order. Turned off, it makes none: what is added is a step's class and its facts."""

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._steps: list[Step] = []

    def add(self, kind: Callable[P, Step], *args: P.args, **facts: P.kwargs) -> None:
        if self._is_on:
            self._steps.append(kind(*args, **facts))

    def inner(self) -> Notes:
        """Notes for what lies below the step that is added next."""
        return Notes(is_on=self._is_on)

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps)
