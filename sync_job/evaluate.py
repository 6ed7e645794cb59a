"""A second evaluator of the plan: plain, slow, and able to say why.

It decides as the Worker does (`worker/src/resolve.ts`), one flag at a time, and leaves notes on its way (`trace`).
It is held against the official resolver by the same vectors and the same generated cases (tests/differential.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flagedge.errors import FlagedgeError
from sync_job.criteria import Truth
from sync_job.evaluation import Evaluation, Fallthrough
from sync_job.materializations import Materializations, Record, RecordFinder
from sync_job.plan import Assignment, Credential, EvaluablePlan, Flag, Rule
from sync_job.segments import RECORD_TRUTHS, SegmentMatcher
from sync_job.trace import AssignmentStep, BucketStep, Ending, Notes, RecordStep, RuleStep, Step, UnitStep
from sync_job.units import UnitError, bucket, unit_text
from sync_job.values import check_context, look_up, overlay

_NAMED_MAX = 20


def evaluate(
    plan: EvaluablePlan,
    flag: str,
    context: Mapping[str, Any],
    *,
    credential: Credential,
    materializations: Materializations | None = None,
    is_traced: bool = True,
) -> Evaluation:
    """What a flag, named with or without `flags/`, is for a context; `materializations` is None where none are bound.

    Pure; untraced it decides the same. Raises FlagedgeError when the credential does not see the flag, DecodeError for
    a context that the Worker would refuse.
    """
    for evaluation in evaluate_flags(
        plan, context, credential=credential, flags=[flag], materializations=materializations, is_traced=is_traced
    ):
        return evaluation
    names = [name.removeprefix("flags/") for name in credential.flags] or ["none"]
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    raise FlagedgeError(
        f"{credential.client} sees no flag {flag} in state {plan.etag}",
        hint=f"Archived flags and other clients' are not in a plan; it sees {', '.join(names[:_NAMED_MAX])}{more}",
    )


def evaluate_flags(
    plan: EvaluablePlan,
    context: Mapping[str, Any],
    *,
    credential: Credential,
    flags: Iterable[str] = (),
    materializations: Materializations | None = None,
    is_traced: bool = True,
) -> list[Evaluation]:
    """As `evaluate`, for all flags of the credential in the state's order, or those of `flags` that it sees."""
    wanted = {name if "/" in name else f"flags/{name}" for name in flags}
    seen = overlay(check_context(context), check_context(credential.managed_context))
    evaluations = []
    for name, (flag, rules) in credential.flags.items():
        if not wanted or name in wanted:
            evaluator = _Evaluator(plan, seen, RecordFinder(materializations), Notes(is_on=is_traced))
            evaluations.append(evaluator.decide(flag, rules, credential))
    return evaluations


@dataclass(frozen=True, slots=True)
class _RuleResult:
    """How a rule ended; the assignment where it is what ended it."""

    ending: Ending
    unit: str | None = None
    assignment: Assignment | None = None
    write: Record | None = None
    problem: str = ""

    @property
    def assignment_id(self) -> str:
        return "" if self.assignment is None else self.assignment.assignment_id


_LAST_REASONS = {
    Ending.MATCHED: "MATCH",
    Ending.KEPT: "MATCH",
    Ending.INVALID_UNIT: "TARGETING_KEY_ERROR",
    Ending.FAILED: "ERROR",
    Ending.UNSUPPORTED: "MATERIALIZATION_NOT_SUPPORTED",
}
"""The endings of a rule that end the flag."""
_ENDINGS = {
    Truth.FALSE: Ending.NOT_IN_SEGMENT,
    Truth.UNKNOWN: Ending.UNDECIDED,
    Truth.UNRECOGNIZED: Ending.NOT_UNDERSTOOD,
    Truth.FAILED: Ending.FAILED,
    Truth.UNSUPPORTED: Ending.UNSUPPORTED,
}


class _Evaluator:
    """Decides one flag for one context."""

    def __init__(self, plan: EvaluablePlan, context: Mapping[str, Any], records: RecordFinder, notes: Notes) -> None:
        self._plan = plan
        self._context = context
        self._records = records
        self._notes = notes
        self._segments = SegmentMatcher(plan, context, records)
        # An earlier rule may match once records are known, so no later one may win.
        self._is_undecided = False

    def decide(self, flag: Flag, rules: Collection[int], credential: Credential) -> Evaluation:
        passed: list[Fallthrough] = []
        writes: list[Record] = []
        facts: dict[str, Any] = {}
        reason = ""
        for number, rule in enumerate(flag.rules):
            result = self._note_rule(rule, is_reached=not reason, is_live=number in rules)
            writes += [] if result.write is None else [result.write]
            if result.ending is Ending.FELL_THROUGH:
                passed.append(Fallthrough(rule.name, result.assignment_id, result.unit or "", rule.selector))
            elif result.ending in _LAST_REASONS:
                reason = _LAST_REASONS[result.ending]
                facts = _matched(flag, rule, result) if reason == "MATCH" else {}
        if self._records.wishes:
            reason, facts = "UNSPECIFIED", {}
        if reason in {"ERROR", "MATERIALIZATION_NOT_SUPPORTED", "UNSPECIFIED"}:
            passed, writes = [], []
        return Evaluation(
            flag=flag.name,
            client=credential.client,
            credential=credential.name,
            etag=self._plan.etag,
            reason=reason or "NO_SEGMENT_MATCH",
            fallthroughs=tuple(passed),
            writes=tuple(writes),
            wishes=tuple(self._records.wishes),
            trace=tuple(step for step in self._notes.steps if isinstance(step, RuleStep)),
            **facts,
        )

    # Rules

    def _note_rule(self, rule: Rule, *, is_reached: bool, is_live: bool) -> _RuleResult:
        inner = self._notes.inner()
        if not is_reached:
            result = _RuleResult(Ending.NOT_REACHED)
        elif not is_live:
            result = _RuleResult(Ending.OTHER_ENVIRONMENT)
        else:
            result = self._ask_rule(rule, inner)
        self._is_undecided |= result.ending is Ending.UNDECIDED
        self._notes.add(RuleStep, rule.name, rule.segment.name, inner.steps, result.ending, result.problem)
        return result

    def _ask_rule(self, rule: Rule, notes: Notes) -> _RuleResult:
        try:
            unit = self._unit(rule, notes)
        except UnitError as error:
            if not rule.has_blank_selector or not rule.is_full:
                return _RuleResult(Ending.INVALID_UNIT, problem=str(error))
            unit = None
        if unit is None and not rule.has_blank_selector:
            return _RuleResult(Ending.NO_UNIT)
        if rule.assignments is None:
            return _RuleResult(Ending.NO_ASSIGNMENTS)
        sticky = self._read_record(rule, unit, notes)
        if isinstance(sticky, _RuleResult):
            return sticky
        truth = Truth.TRUE if sticky is Truth.TRUE else self._segments.match(rule.segment, unit, notes)
        if sticky is Truth.UNKNOWN and not truth.is_final:
            return _RuleResult(Ending.UNDECIDED)
        if truth is not Truth.TRUE:
            return _RuleResult(_ENDINGS[truth])
        return _RuleResult(Ending.HELD_BACK) if self._is_undecided else self._assign(rule, unit, notes)

    def _unit(self, rule: Rule, notes: Notes) -> str | None:
        """The rule's unit. Raises UnitError."""
        is_present, value = look_up(self._context, rule.attribute)
        unit, problem = None, ""
        try:
            unit = unit_text(value)
        except UnitError as error:
            problem = str(error)
            raise
        finally:
            path = ".".join(rule.attribute)
            notes.add(UnitStep, path, rule.has_blank_selector, is_present, value, unit, problem)
        return unit

    # Assignments

    def _assign(self, rule: Rule, unit: str | None, notes: Notes) -> _RuleResult:
        """What a rule that matches has for a unit."""
        assignment = self._find_assignment(rule, unit, notes)
        if isinstance(assignment, _RuleResult):
            return assignment
        notes.add(_assignment_step, assignment, rule.is_full)
        if assignment.kind == "unset":
            return _RuleResult(Ending.UNSET)
        write = None
        if rule.materialization is not None and rule.materialization.write and unit is not None:
            if not self._records.is_bound:
                return _RuleResult(Ending.UNSUPPORTED)
            write = Record(unit, rule.materialization.write, rule.name, _variant_name(assignment))
        if problem := _problem_of(assignment):
            return _RuleResult(Ending.FAILED, problem=problem)
        ending = Ending.FELL_THROUGH if assignment.kind == "fallthrough" else Ending.MATCHED
        return _RuleResult(ending, unit, assignment, write)

    def _find_assignment(self, rule: Rule, unit: str | None, notes: Notes) -> Assignment | _RuleResult:
        assignments: Sequence[Assignment] = rule.assignments or ()
        if rule.is_full:
            return assignments[0]
        if unit is None:
            return _RuleResult(Ending.NO_UNIT)
        if problem := _bucket_problem(rule):
            return _RuleResult(Ending.FAILED, problem=problem)
        key = _bucket_key(rule, unit)
        number = bucket(key, rule.bucket_count)
        span = next((each for each in rule.spans if each[0] <= number < each[1] and each[2] >= 0), None)
        notes.add(_bucket_step, rule, key, number, span)
        return _RuleResult(Ending.NO_BUCKET) if span is None else assignments[span[2]]

    # Sticky assignments

    def _read_record(self, rule: Rule, unit: str | None, notes: Notes) -> _RuleResult | Truth:
        """How the rule ends by the unit's record; else whether it matches already, so that its segment is not asked."""
        spec = rule.materialization
        if spec is None or not spec.read:
            return Truth.FALSE
        if unit is None:
            return _RuleResult(Ending.NO_UNIT)
        inner = notes.inner()
        state, variant = self._records.find(unit, spec.read, rule.name)
        truth = RECORD_TRUTHS[state]
        if state == "found" and not spec.ignore_targeting:
            truth = self._segments.match_targeting(rule.segment, unit, inner)
        notes.add(RecordStep, spec.read, unit, state, variant, spec.ignore_targeting, inner.steps, truth)
        if truth.is_final:
            problem = "the records of sticky assignments could not be read" if state == "unread" else ""
            return _RuleResult(_ENDINGS[truth], problem=problem)
        if state == "missing" and spec.must_match:
            return _RuleResult(Ending.NO_RECORD)
        kept = self._find_kept(rule, unit, variant) if truth is Truth.TRUE else None
        return truth if kept is None else self._keep(kept, unit, notes)

    def _keep(self, assignment: Assignment, unit: str, notes: Notes) -> _RuleResult:
        notes.add(_assignment_step, assignment, is_for_all=False)
        if problem := _problem_of(assignment):
            return _RuleResult(Ending.FAILED, problem=problem)
        return _RuleResult(Ending.KEPT, unit, assignment)

    def _find_kept(self, rule: Rule, unit: str, variant: str) -> Assignment | None:
        """The assignment of the recorded variant; of several, the first whose own ranges hold the unit's bucket."""
        found = [each for each in rule.assignments or () if each.variant is not None and each.variant.name == variant]
        if len(found) <= 1 or _bucket_problem(rule):
            return found[0] if len(found) == 1 else None
        number = bucket(_bucket_key(rule, unit), rule.bucket_count)
        return next((each for each in found if any(low <= number < high for low, high in each.ranges)), None)


def _matched(flag: Flag, rule: Rule, result: _RuleResult) -> dict[str, Any]:
    """What an evaluation tells of a match; a client default has an empty value and schema."""
    variant = None if result.assignment is None else result.assignment.variant
    return {
        "rule": rule.name,
        "segment": rule.segment.name,
        "assignment_id": result.assignment_id,
        "variant": "" if variant is None else variant.name,
        "value": "{}" if variant is None else variant.value,
        "schema": "{}" if variant is None else flag.schema,
        "unit": result.unit or "",
        "selector": rule.selector,
    }


def _bucket_problem(rule: Rule) -> str:
    """Why a rule cannot find anybody's bucket; empty when it can."""
    if "/" not in rule.segment.name:
        return f"the name of segment {rule.segment.name} holds no id to hash"
    return "" if rule.bucket_count > 0 else "the rule has no buckets"


def _bucket_key(rule: Rule, unit: str) -> str:
    """All rules on one segment share their bucketing, by the segment's id."""
    return f"{rule.segment.name.split('/')[1]}|{unit}"


def _variant_name(assignment: Assignment) -> str:
    return "" if assignment.variant is None else assignment.variant.name


def _problem_of(assignment: Assignment) -> str:
    """Why nobody can be given the assignment; empty when everybody can."""
    if assignment.kind == "missing":
        return f"assignment {assignment.assignment_id} names a variant that the flag does not have"
    if assignment.variant is not None and assignment.variant.value is None:
        return f"the value of {assignment.variant.name} holds a number that JSON cannot say"
    return ""


def _assignment_step(assignment: Assignment, is_for_all: bool) -> Step:  # noqa: FBT001
    return AssignmentStep(assignment.assignment_id, assignment.kind, _variant_name(assignment), is_for_all)


def _bucket_step(rule: Rule, key: str, number: int, span: tuple[int, int, int] | None) -> Step:
    ids = [each.assignment_id for each in rule.assignments or ()]
    return BucketStep(
        key=key,
        bucket=number,
        bucket_count=rule.bucket_count,
        range=None if span is None else span[:2],
        assignment_id=None if span is None else ids[span[2]],
        shares=tuple((low, high, ids[owner]) for low, high, owner in rule.spans if owner >= 0),
    )
