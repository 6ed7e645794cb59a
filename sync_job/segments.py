"""Whether a unit is in a segment: its targeting, three-valued and in the state's order, then its bitset.

Source: docs/plan.md, expressions; the same as the segments' part of `worker/src/resolve.ts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sync_job.criteria import Truth, check_attribute, operator_of, readings_of
from sync_job.materializations import RecordFinder, RecordState
from sync_job.plan import EvaluablePlan, Segment
from sync_job.trace import AttributeStep, BitStep, CombinationStep, MaterializedStep, Notes, SegmentStep, Step
from sync_job.units import POPULATION_BUCKETS, bucket, is_bit_set, is_in_bloom
from sync_job.values import look_up

Json = Any
RECORD_TRUTHS: dict[RecordState, Truth] = {
    "found": Truth.TRUE,
    "missing": Truth.FALSE,
    "unknown": Truth.UNKNOWN,
    "unread": Truth.FAILED,
    "unsupported": Truth.UNSUPPORTED,
}
_OPERATORS: dict[str, Literal["and", "or", "not"]] = {"&": "and", "|": "or", "!": "not"}
_NEGATED = {Truth.TRUE: Truth.FALSE, Truth.FALSE: Truth.TRUE}


class SegmentMatcher:
    """Asks segments for one context, and for one unit at a time (None for none)."""

    def __init__(self, plan: EvaluablePlan, context: Mapping[str, Any], records: RecordFinder) -> None:
        self._plan = plan
        self._context = context
        self._records = records

    def match(self, segment: Segment, unit: str | None, notes: Notes, visited: frozenset[str] = frozenset()) -> Truth:
        """Whether the unit is in it. `visited` names the segments on the way: met again, one counts as false."""
        inner = notes.inner()
        is_cycle = segment.name in visited
        truth = Truth.FALSE
        if not is_cycle:
            truth = self.match_targeting(segment, unit, inner, visited | {segment.name})
            asks_bits = segment.bits is not None and truth in {Truth.TRUE, Truth.UNKNOWN}
            if asks_bits and not self._has_bit(segment.bits, unit, inner):
                truth = Truth.FALSE
        notes.add(SegmentStep, segment.name, inner.steps, is_cycle, truth)
        return truth

    def match_targeting(
        self, segment: Segment, unit: str | None, notes: Notes, visited: frozenset[str] = frozenset()
    ) -> Truth:
        """As `match`, without the bitset."""
        return self._evaluate(segment.expression, unit, visited, notes)

    def _has_bit(self, bits: Json, unit: str | None, notes: Notes) -> bool:
        number = None
        if unit is None:
            is_in = bool(bits[3])
        else:
            number = bucket(f"{self._plan.unit_salt}|{unit}", POPULATION_BUCKETS)
            is_in = is_bit_set(bits, self._plan.bits, number)
        notes.add(BitStep, number, POPULATION_BUCKETS, is_in)
        return is_in

    def _evaluate(self, expression: Json, unit: str | None, visited: frozenset[str], notes: Notes) -> Truth:
        if isinstance(expression, bool):
            truth = Truth.TRUE if expression else Truth.FALSE
            notes.add(CombinationStep, "true" if expression else "false", (), 0, truth)
            return truth
        if isinstance(expression, int):
            return self._check(self._plan.criteria[expression], unit, visited, notes)
        return self._combine(expression, unit, visited, notes)

    def _combine(self, expression: Json, unit: str | None, visited: frozenset[str], notes: Notes) -> Truth:
        """Operands in their order, until one decides; an unknown one does not."""
        sign, *operands = expression
        inner = notes.inner()
        decisive, truth = (Truth.TRUE, Truth.FALSE) if sign == "|" else (Truth.FALSE, Truth.TRUE)
        asked_count = 0
        for operand in operands:
            asked_count += 1
            found = self._evaluate(operand, unit, visited, inner)
            if sign == "!":
                truth = _NEGATED.get(found, found)
            elif found is decisive or found.is_final:
                truth = found
                break
            elif found is Truth.UNKNOWN:
                truth = found
        notes.add(CombinationStep, _OPERATORS[sign], inner.steps, len(operands) - asked_count, truth)
        return truth

    def _check(self, criterion: Mapping[str, Any], unit: str | None, visited: frozenset[str], notes: Notes) -> Truth:
        if "segment" in criterion:
            return self.match(self._plan.segments[criterion["segment"]], unit, notes, visited)
        if "materialized" in criterion:
            return self._check_materialized(criterion["materialized"], criterion.get("bloom"), unit, notes)
        path = self._plan.attributes[criterion["attribute"]]
        truth = check_attribute(criterion, look_up(self._context, path)[1])
        notes.add(_attribute_step, criterion, path, self._context, truth)
        return truth

    def _check_materialized(self, name: str, bloom: Json, unit: str | None, notes: Notes) -> Truth:
        source: Literal["bloom filter", "records", "no unit"]
        if unit is None:
            source, truth = "no unit", Truth.FALSE
        elif bloom is not None:
            is_in = is_in_bloom(bloom, self._plan.bits, unit)
            source, truth = "bloom filter", Truth.TRUE if is_in else Truth.FALSE
        else:
            source, truth = "records", RECORD_TRUTHS[self._records.find_any(unit, name)]
        notes.add(MaterializedStep, name, unit, source, truth)
        return truth


def _attribute_step(
    criterion: Mapping[str, Any], path: tuple[str, ...], context: Mapping[str, Any], truth: Truth
) -> Step:
    is_present, value = look_up(context, path)
    operator = operator_of(criterion)
    return AttributeStep(
        attribute=".".join(path),
        is_present=is_present,
        value=value,
        read_as=readings_of(criterion, value),
        over=criterion.get("over", ""),
        operator=operator,
        operand=criterion.get(operator),
        truth=truth,
    )
