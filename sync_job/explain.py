"""An evaluation in words, for whoever has to answer why somebody got what they got.

First the answer and its reason, then rule by rule what was asked and found. Names are cut to their last part; the JSON
form (`Evaluation.to_json`) has them whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sync_job.criteria import Truth
from sync_job.evaluation import Evaluation
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
)
from sync_job.words import clipped, listed, quoted, short, shown_attribute, shown_id, shown_json, test_in_words

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


def explain(evaluation: Evaluation, *, override: str = "") -> str:
    """Lines for people: the answer, its reason, and each rule. The evaluation has to be traced.

    `override` describes what stands in place of the flag's rules, "" where they decide.
    """
    return "\n".join([*_label(_summary(evaluation, override)), *_rules(evaluation)])


def explain_rules(evaluation: Evaluation) -> str:
    """As `explain`, of an evaluation whose flag, client and state were told: answer, reason, and each rule."""
    return "\n".join([*_label(_answer_and_reason(evaluation)), *_rules(evaluation)])


# Summary


def _label(told: Iterable[tuple[str, str]]) -> Iterator[str]:
    for label, text in told:
        yield f"{label:9} {text}"


def _answer_and_reason(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    yield "answer", _answer(evaluation)
    yield "reason", _reason(evaluation)


def _summary(evaluation: Evaluation, override: str) -> Iterator[tuple[str, str]]:
    yield "flag", evaluation.flag
    yield "client", evaluation.client
    yield "state", evaluation.etag or "(without an entity tag)"
    yield from _answer_and_reason(evaluation)
    if override:
        yield "override", override
    if evaluation.unit:
        yield "unit", quoted(evaluation.unit)
    for through in evaluation.fallthroughs:
        unit = f" for unit {quoted(through.unit)}" if through.unit != evaluation.unit else ""
        yield (
            "exposure",
            f"rule {short(through.rule)}, assignment {shown_id(through.assignment_id)}, fell through{unit}",
        )
    if evaluation.reason == "MATCH":
        yield "exposure", f"rule {short(evaluation.rule)}, assignment {shown_id(evaluation.assignment_id)}"
    for write in evaluation.writes:
        variant = f"variant {short(write.variant)}" if write.variant else "no variant"
        yield "records", f"{variant} for unit {quoted(write.unit)} in materialization {write.materialization}"
    for wish in evaluation.wishes:
        rule = f" by rule {short(wish.rule)}" if wish.rule else ""
        yield "missing", f"record of unit {quoted(wish.unit)} in materialization {wish.materialization}{rule}"


def _answer(evaluation: Evaluation) -> str:
    if evaluation.variant:
        return f"variant {short(evaluation.variant)}, {clipped(evaluation.value or '')}"
    return "not decided" if evaluation.wishes else "the caller's default"


def _reason(evaluation: Evaluation) -> str:
    if evaluation.wishes:
        return "it depends on records of sticky assignments that are not known"
    last = next((step for step in reversed(evaluation.trace) if step.ending is not Ending.NOT_REACHED), None)
    if evaluation.reason == "NO_SEGMENT_MATCH":
        return "NO_SEGMENT_MATCH: no rule matched"
    return evaluation.reason if last is None else f"{evaluation.reason}: rule {short(last.rule)} {_ending(last)}"


# Rules


def _rules(evaluation: Evaluation) -> Iterator[str]:
    for step in evaluation.trace:
        yield from ("", f"rule {short(step.rule)}: {_ending(step)}")
        yield from (_INDENT + line for each in step.steps for line in _lines(each))


def _ending(step: RuleStep) -> str:
    """How a rule ended, and by what."""
    match step.ending:
        case Ending.NO_UNIT:
            return f"passed over without a unit: {_unit_problem(step)}"
        case Ending.NOT_IN_SEGMENT:
            return f"passed over, not in segment {short(step.segment)}{_causes(step)}"
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
    what = f"variant {short(assignment.variant)}" if assignment.variant else "the caller's default"
    match ending:
        case Ending.MATCHED:
            return f"matched with {what}"
        case Ending.KEPT:
            return f"matched with {what}, kept from an earlier assignment"
        case Ending.FELL_THROUGH:
            return f"matched and fell through, by assignment {shown_id(assignment.assignment_id)}"
        case _:
            return f"passed over, its assignment {shown_id(assignment.assignment_id)} says nothing"


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
            test = test_in_words(step.attribute, step.over, step.operator, step.operand)
            return f"{test}? {_TRUTHS[step.truth]}, {_seen(step)}"
        case CombinationStep():
            return f"{_COMBINATIONS[step.operator]}: {_TRUTHS[step.truth]}"
        case SegmentStep():
            told = "no, it is what asks" if step.is_cycle else _TRUTHS[step.truth]
            return f"segment {short(step.segment)}: {told}"
        case BitStep():
            return _bit(step)
        case MaterializedStep():
            return f"materialized segment {step.materialization}: {_materialized(step)}"
        case RecordStep():
            return f"record of unit {quoted(step.unit)} in materialization {step.materialization}: {_record(step)}"
        case BucketStep():
            return _bucket(step)
        case AssignmentStep():
            return _assignment(step)
        case _:
            return str(step)


def _unit(step: UnitStep) -> str:
    if step.unit is None:
        return f"no unit: {_unit_found(step)}{f', and {step.problem}' if step.problem else ''}"
    return f"unit: {_unit_found(step)}{'' if step.unit == step.value else f', as text {quoted(step.unit)}'}"


def _unit_found(step: UnitStep) -> str:
    return f"{shown_attribute(step.attribute)} is {shown_json(step.value) if step.is_present else 'missing'}"


def _bit(step: BitStep) -> str:
    if step.bucket is None:
        return f"allocation: {'whole' if step.is_in else 'not whole'}, which is what counts without a unit"
    return f"allocation: bucket {step.bucket} of {step.bucket_count} is {'in' if step.is_in else 'not in'}"


def _materialized(step: MaterializedStep) -> str:
    unit, told = quoted(step.unit or ""), _TRUTHS[step.truth]
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
    variant = f"variant {short(step.variant)}" if step.variant else "no variant"
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
    place = f"bucket {step.bucket} of {step.bucket_count} ({quoted(step.key)})"
    if step.range is not None:
        return f"{place} is in {_range(*step.range)}"
    shares = [f"{_range(low, high)} {shown_id(name)}" for low, high, name in step.shares]
    return f"{place} is in no range{f', there are {listed(shares)}' if shares else ', as there are none'}"


def _range(low: int, high: int) -> str:
    return f"{low} to {high - 1}" if high - low > 1 else str(low)


def _assignment(step: AssignmentStep) -> str:
    kinds = {
        "variant": f"variant {short(step.variant)}",
        "default": "the caller's default",
        "fallthrough": "fall through",
        "unset": "nothing",
        "missing": "a variant that the flag does not have",
    }
    return f"assignment {shown_id(step.assignment_id)}{' (all buckets)' if step.is_for_all else ''}: {kinds[step.kind]}"


def _seen(step: AttributeStep) -> str:
    if not step.is_present:
        return "it is missing"
    read = f", read as {listed(step.read_as)}" if step.read_as else ""
    problem = ", which is no number" if step.truth is Truth.FAILED else ""
    return f"it is {shown_json(step.value)}{read}{problem}"


_COMBINATIONS = {
    "and": "all of",
    "or": "any of",
    "not": "not",
    "true": "everybody",
    "false": "nobody",
}
