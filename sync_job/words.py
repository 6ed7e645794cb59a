"""Names, values and criteria in words, as `explain` and `diff` print them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sync_job.trace import json_of
from sync_job.values import Timestamp

_VALUE_MAX_CHARS = 100
_LISTED_MAX = 10
_VERBS = {"eq": "is", "in": "is one of", "starts": "starts with", "ends": "ends with", "contains": "contains"}


def test_in_words(attribute: str, over: str, operator: str, operand: Any) -> str:
    """A criterion's test in the plan's spelling (docs/plan.md) as a sentence: `country is one of "SE", "NO"`."""
    subject = shown_attribute(attribute)
    if over:
        subject = f"{'some' if over == 'any' else 'every'} element of {subject}"
    return f"{subject} {_test(operator, operand)}"


def _test(operator: str, operand: Any) -> str:
    match operator:
        case "":
            return "has a test of an unknown kind"
        case "eq":
            return "is missing or null" if operand[0] == "none" else f"is {_operand(operand)}"
        case "in":
            return f"is one of {listed([_operand(each) for each in operand]) or 'nothing'}"
        case "range":
            return _bounds(*operand)
        case _:
            return f"{_VERBS[operator]} {quoted(operand)}"


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
            return f"version {value[0] or quoted(value[0])}"
        case "list":
            return f"[{listed([_operand(each) for each in value])}]"
        case "none":
            return "null"
        case _:
            return str(value) if isinstance(value, str) and kind == "number" else shown_json(value)


def short(name: str) -> str:
    return name.rpartition("/")[2] or quoted(name)


def shown_id(assignment_id: str) -> str:
    return short(assignment_id) if assignment_id else '""'


def shown_attribute(path: str) -> str:
    return path or '""'


def quoted(text: str) -> str:
    return clipped(json.dumps(text, ensure_ascii=False))


def shown_json(value: Any) -> str:
    return clipped(json.dumps(json_of(value), ensure_ascii=False))


def clipped(text: str) -> str:
    return text if len(text) <= _VALUE_MAX_CHARS else f"{text[:_VALUE_MAX_CHARS]}…"


def listed(texts: Iterable[str]) -> str:
    """The first of them, and how many more there are."""
    first = list(texts)
    more = len(first) - _LISTED_MAX
    return ", ".join(first if more <= 0 else [*first[:_LISTED_MAX], f"{more} more"])
