"""An evaluation in words, for whoever has to answer why somebody got what they got.

First the answer and its reason, then rule by rule what was asked and found. Names are cut to their last part; the JSON
form (`Evaluation.to_json`) has them whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sync_job.criteria import Truth
from sync_job.evaluate import Evaluation
from sync_job.trace import (
    AssignmentStep,
    AttributeStep,
    BitStep,
    BucketStep,
    CombinationStep,
    Ending,
    MaterializedStep,
    RecordStep,
    RuleStep,
    SegmentStep,
    Step,
    UnitStep,
    json_of,
)
from sync_job.values import Timestamp

_VALUE_MAX_CHARS = 100
_LISTED_MAX = 10
_CAUSES_MAX = 2
_INDENT = "  "
_TRUTHS = {
    Truth.TRUE: "yes",
    Truth.FALSE: "no",
    Truth.UNKNOWN: "not known",
    Truth.UNRECOGNIZED: "not understood",
    Truth.FAILED: "error",
    Truth.UNSUPPORTED: "no sticky assignments are bound",
}


def explain(evaluation: Evaluation) -> str:
    """Lines for people: the answer, its reason, and each rule. The evaluation has to be traced."""
    lines = [f"{label:9} {text}" for label, text in _summary(evaluation)]
    for step in evaluation.trace:
        lines += ["", f"rule {_short(step.rule)}: {_ending(step)}"]
        lines += [_INDENT + line for each in step.steps for line in _lines(each)]
    return "\n".join(lines)


# Summary


def _summary(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    yield "flag", evaluation.flag
    yield "client", evaluation.client
    yield "state", evaluation.etag or "(without an entity tag)"
    yield "answer", _answer(evaluation)
    yield "reason", _reason(evaluation)
    if evaluation.unit:
        yield "unit", _quoted(evaluation.unit)
    for through in evaluation.fallthroughs:
        unit = f" for unit {_quoted(through.unit)}" if through.unit != evaluation.unit else ""
        yield "exposure", f"rule {_short(through.rule)}, assignment {_id(through.assignment_id)}, fell through{unit}"
    if evaluation.reason == "MATCH":
        yield "exposure", f"rule {_short(evaluation.rule)}, assignment {_id(evaluation.assignment_id)}"
    for write in evaluation.writes:
        variant = f"variant {_short(write.variant)}" if write.variant else "no variant"
        yield "records", f"{variant} for unit {_quoted(write.unit)} in materialization {write.materialization}"
    for wish in evaluation.wishes:
        rule = f" by rule {_short(wish.rule)}" if wish.rule else ""
        yield "missing", f"record of unit {_quoted(wish.unit)} in materialization {wish.materialization}{rule}"


def _answer(evaluation: Evaluation) -> str:
    if evaluation.variant:
        return f"variant {_short(evaluation.variant)}, {_clipped(evaluation.value or '')}"
    return "not decided" if evaluation.wishes else "the caller's default"


def _reason(evaluation: Evaluation) -> str:
    if evaluation.wishes:
        return "it depends on records of sticky assignments that are not known"
    last = next((step for step in reversed(evaluation.trace) if step.ending is not Ending.NOT_REACHED), None)
    if evaluation.reason == "NO_SEGMENT_MATCH":
        return "NO_SEGMENT_MATCH: no rule matched"
    return evaluation.reason if last is None else f"{evaluation.reason}: rule {_short(last.rule)} {_ending(last)}"


# Rules


def _ending(step: RuleStep) -> str:
    """How a rule ended, and by what."""
    match step.ending:
        case Ending.NO_UNIT:
            return f"passed over without a unit: {_unit_problem(step)}"
        case Ending.NOT_IN_SEGMENT:
            return f"passed over, not in segment {_short(step.segment)}{_causes(step)}"
        case Ending.NOT_UNDERSTOOD:
            return f"passed over, its targeting is not understood{_causes(step)}"
        case Ending.NO_BUCKET:
            found = next(each for each in step.steps if isinstance(each, BucketStep))
            return f"passed over, no assignment has bucket {found.bucket} of {found.bucket_count}"
        case Ending.INVALID_UNIT:
            return f"ended the flag without a valid unit: {_unit_problem(step)}"
        case Ending.FAILED:
            return f"ended the flag with an error{f': {step.problem}' if step.problem else _causes(step)}"
        case Ending.FELL_THROUGH | Ending.MATCHED | Ending.KEPT | Ending.UNSET:
            found_assignment = next(each for each in step.steps if isinstance(each, AssignmentStep))
            return _given(step.ending, found_assignment)
        case ending:
            return _PLAIN_ENDINGS[ending]


_PLAIN_ENDINGS = {
    Ending.NOT_REACHED: "not reached",
    Ending.OTHER_ENVIRONMENT: "passed over, not for the environments of this credential",
    Ending.NO_ASSIGNMENTS: "passed over, it has no assignments",
    Ending.NO_RECORD: "passed over, it is only for units with a record, and this one has none",
    Ending.UNDECIDED: "not decided, it depends on a record that is not known",
    Ending.HELD_BACK: "would match, but an earlier rule is not decided",
    Ending.UNSUPPORTED: "ended the flag, it needs sticky assignments, and the Worker has none bound",
}


def _given(ending: Ending, assignment: AssignmentStep) -> str:
    what = f"variant {_short(assignment.variant)}" if assignment.variant else "the caller's default"
    match ending:
        case Ending.MATCHED:
            return f"matched with {what}"
        case Ending.KEPT:
            return f"matched with {what}, kept from an earlier assignment"
        case Ending.FELL_THROUGH:
            return f"matched and fell through, by assignment {_id(assignment.assignment_id)}"
        case _:
            return f"passed over, its assignment {_id(assignment.assignment_id)} says nothing"


def _unit_problem(step: RuleStep) -> str:
    """What is wrong with the unit of a rule; a rule that needs none may still need one for its buckets."""
    found = next(each for each in step.steps if isinstance(each, UnitStep))
    return f"{_unit_found(found)}{f', and {step.problem}' if step.problem else ''}"


def _causes(step: RuleStep) -> str:
    """What decided, if that is little enough to be said in a line."""
    last = step.steps[-1]
    asked = last.steps if isinstance(last, SegmentStep | RecordStep) else ()
    causes = _deciding(asked[-1]) if asked else []
    return f": {'; '.join(map(_sentence, causes))}" if 0 < len(causes) <= _CAUSES_MAX else ""


def _deciding(step: Step) -> list[Step]:
    """The steps without which a step would have had another truth."""
    if not isinstance(step, CombinationStep) or not step.steps:
        return [step]
    stops = {"and": Truth.FALSE, "or": Truth.TRUE}.get(step.operator)
    if step.operator == "not" or step.truth is stops or step.truth.is_final:
        return _deciding(step.steps[-1])
    return [each for operand in step.steps for each in _deciding(operand)]


# Steps


def _lines(step: Step) -> Iterator[str]:
    """A step and what lies below it."""
    yield _sentence(step)
    below: Iterable[Step] = step.steps if isinstance(step, CombinationStep | SegmentStep | RecordStep) else ()
    for each in below:
        yield from (_INDENT + line for line in _lines(each))
    if isinstance(step, CombinationStep) and step.skipped_count:
        yield f"{_INDENT}({step.skipped_count} more not asked, as this decides)"


def _sentence(step: Step) -> str:
    match step:
        case UnitStep():
            return _unit(step)
        case AttributeStep():
            return f"{_tested(step)}? {_TRUTHS[step.truth]}, {_seen(step)}"
        case CombinationStep():
            return f"{_COMBINATIONS[step.operator]}: {_TRUTHS[step.truth]}"
        case SegmentStep():
            told = "no, it is what asks" if step.is_cycle else _TRUTHS[step.truth]
            return f"segment {_short(step.segment)}: {told}"
        case BitStep():
            return _bit(step)
        case MaterializedStep():
            return f"materialized segment {step.materialization}: {_materialized(step)}"
        case RecordStep():
            return f"record of unit {_quoted(step.unit)} in materialization {step.materialization}: {_record(step)}"
        case BucketStep():
            return _bucket(step)
        case AssignmentStep():
            return _assignment(step)
        case _:
            return str(step)


def _unit(step: UnitStep) -> str:
    if step.unit is None:
        return f"no unit: {_unit_found(step)}{f', and {step.problem}' if step.problem else ''}"
    return f"unit: {_unit_found(step)}{'' if step.unit == step.value else f', as text {_quoted(step.unit)}'}"


def _unit_found(step: UnitStep) -> str:
    return f"{_attribute(step.attribute)} is {_json(step.value) if step.is_present else 'missing'}"


def _bit(step: BitStep) -> str:
    if step.bucket is None:
        return f"allocation: {'whole' if step.is_in else 'not whole'}, which is what counts without a unit"
    return f"allocation: bucket {step.bucket} of {step.bucket_count} is {'in' if step.is_in else 'not in'}"


def _materialized(step: MaterializedStep) -> str:
    unit, told = _quoted(step.unit or ""), _TRUTHS[step.truth]
    if step.source == "no unit":
        return "no, as there is no unit"
    if step.source == "bloom filter":
        return f"{told}, says its bloom filter of unit {unit}"
    match step.truth:
        case Truth.UNSUPPORTED:
            return told
        case Truth.FAILED:
            return f"{told}, its records of unit {unit} could not be read"
        case Truth.UNKNOWN:
            return f"{told}, its records of unit {unit} were not given"
        case _:
            return f"{told}, unit {unit} has {'a' if step.truth is Truth.TRUE else 'no'} record in it"


def _record(step: RecordStep) -> str:
    if step.state != "found":
        return _RECORD_STATES[step.state]
    variant = f"variant {_short(step.variant)}" if step.variant else "no variant"
    asked = (
        "whatever the targeting says" if step.ignore_targeting else f"if the targeting says so: {_TRUTHS[step.truth]}"
    )
    return f"{variant}, which counts {asked}"


_RECORD_STATES = {
    "missing": "none",
    "unknown": "not known",
    "unread": "could not be read",
    "unsupported": "no sticky assignments are bound",
}


def _bucket(step: BucketStep) -> str:
    place = f"bucket {step.bucket} of {step.bucket_count} ({_quoted(step.key)})"
    if step.range is not None:
        return f"{place} is in {_range(*step.range)}"
    shares = [f"{_range(low, high)} {_id(name)}" for low, high, name in step.shares]
    return f"{place} is in no range{f', there are {_listed(shares)}' if shares else ', as there are none'}"


def _range(low: int, high: int) -> str:
    return f"{low} to {high - 1}" if high - low > 1 else str(low)


def _assignment(step: AssignmentStep) -> str:
    kinds = {
        "variant": f"variant {_short(step.variant)}",
        "default": "the caller's default",
        "fallthrough": "fall through",
        "unset": "nothing",
        "missing": "a variant that the flag does not have",
    }
    return f"assignment {_id(step.assignment_id)}{' (all buckets)' if step.is_for_all else ''}: {kinds[step.kind]}"


# Criteria

_COMBINATIONS = {
    "and": "all of",
    "or": "any of",
    "not": "not",
    "true": "everybody",
    "false": "nobody",
}
_VERBS = {"eq": "is", "in": "is one of", "starts": "starts with", "ends": "ends with", "contains": "contains"}


def _tested(step: AttributeStep) -> str:
    subject = _attribute(step.attribute)
    if step.over:
        subject = f"{'some' if step.over == 'any' else 'every'} element of {subject}"
    return f"{subject} {_test(step)}"


def _test(step: AttributeStep) -> str:
    match step.operator:
        case "":
            return "has a test of an unknown kind"
        case "eq":
            return "is missing or null" if step.operand[0] == "none" else f"is {_operand(step.operand)}"
        case "in":
            return f"is one of {_listed([_operand(each) for each in step.operand]) or 'nothing'}"
        case "range":
            return _bounds(*step.operand)
        case operator:
            return f"{_VERBS[operator]} {_quoted(step.operand)}"


def _bounds(start: Any, start_included: bool, end: Any, end_included: bool) -> str:  # noqa: FBT001
    bounds = []
    if start is not None:
        bounds.append(f"{'at least' if start_included else 'above'} {_operand(start)}")
    if end is not None:
        bounds.append(f"{'at most' if end_included else 'below'} {_operand(end)}")
    return f"is {' and '.join(bounds) or 'within no bounds, which nothing is'}"


def _operand(operand: Any) -> str:
    kind, value = operand
    match kind:
        case "timestamp":
            return str(Timestamp(*value))
        case "version":
            return f"version {value[0] or _quoted(value[0])}"
        case "list":
            return f"[{_listed([_operand(each) for each in value])}]"
        case "none":
            return "null"
        case _:
            return str(value) if isinstance(value, str) and kind == "number" else _json(value)


def _seen(step: AttributeStep) -> str:
    if not step.is_present:
        return "it is missing"
    read = f", read as {_listed(step.read_as)}" if step.read_as else ""
    problem = ", which is no number" if step.truth is Truth.FAILED else ""
    return f"it is {_json(step.value)}{read}{problem}"


# Words


def _short(name: str) -> str:
    return name.rpartition("/")[2] or _quoted(name)


def _id(assignment_id: str) -> str:
    return _short(assignment_id) if assignment_id else '""'


def _attribute(path: str) -> str:
    return path or '""'


def _quoted(text: str) -> str:
    return _clipped(json.dumps(text, ensure_ascii=False))


def _json(value: Any) -> str:
    return _clipped(json.dumps(json_of(value), ensure_ascii=False))


def _clipped(text: str) -> str:
    return text if len(text) <= _VALUE_MAX_CHARS else f"{text[:_VALUE_MAX_CHARS]}…"


def _listed(texts: Iterable[str]) -> str:
    """The first of them, and how many more there are."""
    first = list(texts)
    more = len(first) - _LISTED_MAX
    return ", ".join(first if more <= 0 else [*first[:_LISTED_MAX], f"{more} more"])
