"""Attribute criteria: a context value, read as the kind that the rule compares with, put to the rule's test.

Pure and total: every result is a `Truth`. Source: docs/plan.md, criteria; the same as `worker/src/criteria.ts`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sync_job.values import Timestamp, Version, decimal_text, parse_number, parse_timestamp, timestamp_of_number

OPERATORS = ("eq", "in", "range", "starts", "ends", "contains")
_TEXT_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "starts": str.startswith,
    "ends": str.endswith,
    "contains": str.__contains__,
}
_NO_VALUE = "null"  # a missing value is the text "null", as upstream has it

Comparable = bool | float | str | Timestamp | Version | list["Comparable"]
Operand = Sequence[Any]


class Truth(enum.Enum):
    """The truth values of targeting; those after UNKNOWN end the evaluation of their rule or flag."""

    FALSE = "false"
    TRUE = "true"
    UNKNOWN = "unknown"
    """Depends on a record of a sticky assignment that is not known."""
    UNRECOGNIZED = "unrecognized"
    """The criterion is not understood: its rule is passed over."""
    FAILED = "failed"
    """A context value could not be read as a number, or records could not be read: the flag errs."""
    UNSUPPORTED = "unsupported"
    """Needs sticky assignments, which are not bound: the flag errs."""

    @property
    def is_final(self) -> bool:
        """Whether it is neither true, false nor unknown."""
        return self in _FINAL


_FINAL = frozenset({Truth.UNRECOGNIZED, Truth.FAILED, Truth.UNSUPPORTED})


class _NotANumberError(ValueError):
    """Text where a number is compared with."""


def check_attribute(criterion: Mapping[str, Any], value: Any) -> Truth:
    """Put a context value to a criterion; None for a missing one. Numbers are floats."""
    over, operator = criterion.get("over"), operator_of(criterion)
    if over is not None and value is None:
        value = []
    if not operator:
        is_asked = over is None or value != []
        return Truth.UNRECOGNIZED if is_asked else _truth_of(holds=over == "all")
    if operator == "eq" and criterion["eq"][0] == "none" and over is None:
        return _truth_of(holds=value is None or (isinstance(value, list) and None in value))
    try:
        read = value if operator in _TEXT_OPERATORS else _read(value, _expected_kind(criterion))
    except _NotANumberError:
        return Truth.FAILED
    values = read if isinstance(read, list) else [read]
    quantifier = all if over == "all" else any
    return _truth_of(holds=quantifier(_holds(criterion, operator, each) for each in values))


def operator_of(criterion: Mapping[str, Any]) -> str:
    """The name of the criterion's test in the plan; empty for one that is not understood."""
    return next((operator for operator in OPERATORS if operator in criterion), "")


def readings_of(criterion: Mapping[str, Any], value: Any) -> tuple[str, ...]:
    """The timestamps, versions, and numbers and bools out of text, that a context value was read as, spelt out."""
    operator = operator_of(criterion)
    if not operator or operator in _TEXT_OPERATORS or value is None:
        return ()
    try:
        read = _read(value, _expected_kind(criterion))
    except _NotANumberError:
        return ()
    given = value if isinstance(value, list) else [value]
    values = read if isinstance(read, list) else [read]
    return tuple(_reading(each) for each, raw in zip(values, given, strict=True) if _is_converted(each, raw))


def _truth_of(*, holds: bool) -> Truth:
    return Truth.TRUE if holds else Truth.FALSE


def _expected_kind(criterion: Mapping[str, Any]) -> str:
    """The kind that context values are read as: that of the first operand there is."""
    if "eq" in criterion:
        operands = [criterion["eq"]]
    elif "in" in criterion:
        operands = criterion["in"][:1]
    else:
        operands = [bound for bound in criterion["range"][::2] if bound is not None]
    return operands[0][0] if operands else "none"


# Reading


def _read(value: Any, kind: str) -> Comparable:
    """A context value as `kind`; lists element by element. Raises _NotANumberError."""
    if isinstance(value, list):
        return [_read(element, kind) for element in value]
    if isinstance(value, str):
        return _read_text(value, kind)
    if isinstance(value, float):
        return _read_number(value, kind)
    return value if isinstance(value, bool) and kind == "bool" else _NO_VALUE


def _read_text(text: str, kind: str) -> Comparable:
    match kind:
        case "string":
            return text
        case "number":
            number = parse_number(text)
            if number is None:
                raise _NotANumberError(text)
            return number
        case "bool":
            return text in {"true", "TRUE"}
        case "timestamp":
            return parse_timestamp(text) or _NO_VALUE
        case "version":
            return Version.of(text)
        case _:
            return _NO_VALUE


def _read_number(number: float, kind: str) -> Comparable:
    match kind:
        case "number":
            return number
        case "string":
            return decimal_text(number)
        case "timestamp":
            return timestamp_of_number(number) or _NO_VALUE
        case _:
            return _NO_VALUE


def _is_converted(read: Comparable, raw: Any) -> bool:
    return isinstance(read, Timestamp | Version) or (isinstance(read, bool | float) and isinstance(raw, str))


def _reading(read: Comparable) -> str:
    match read:
        case Version():
            return ".".join(map(str, read.parts))
        case bool():
            return "true" if read else "false"
        case float():
            return decimal_text(read)
        case _:
            return str(read)


# Tests


def _holds(criterion: Mapping[str, Any], operator: str, value: Any) -> bool:
    match operator:
        case "eq":
            return _equals(value, criterion["eq"])
        case "in":
            return any(_equals(value, operand) for operand in criterion["in"])
        case "range":
            return _is_in_range(value, criterion["range"])
        case _:
            # These look at text only; nothing is converted for them.
            return isinstance(value, str) and _TEXT_OPERATORS[operator](value, criterion[operator])


def _equals(value: Comparable, operand: Operand) -> bool:
    expected = _operand_value(operand)
    return expected is not None and _are_equal(value, expected)


def _are_equal(left: Comparable, right: Comparable) -> bool:
    """Of the same kind and equal: True is not 1."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_are_equal, left, right))
    return type(left) is type(right) and left == right


def _is_in_range(value: Comparable, bounds: Sequence[Any]) -> bool:
    """Both bounds there are must hold, and there must be one."""
    start, start_included, end, end_included = bounds
    if start is None and end is None:
        return False
    is_above = start is None or _is_ordered(_operand_value(start), value, or_equal=start_included)
    is_below = end is None or _is_ordered(value, _operand_value(end), or_equal=end_included)
    return is_above and is_below


def _is_ordered(lower: Comparable | None, upper: Comparable | None, *, or_equal: bool) -> bool:
    """Whether lower < upper: numbers, strings, timestamps and versions have an order, each among its own."""
    low, high = _rank(lower), _rank(upper)
    if low is None or type(lower) is not type(upper):
        return False
    return bool(low < high or (or_equal and low == high))


def _rank(value: Comparable | None) -> Any:
    if isinstance(value, Version):
        return value.parts
    return value if isinstance(value, float | str | Timestamp) else None


def _operand_value(operand: Operand) -> Comparable | None:
    """A rule's operand; None for one that equals nothing."""
    kind, value = operand
    match kind:
        case "timestamp":
            return Timestamp(*value)
        case "version":
            text, parts = value
            return Version(text, tuple(parts))
        case "list":
            elements = [_operand_value(element) for element in value]
            known = [element for element in elements if element is not None]
            return known if len(known) == len(elements) else None
        case "number":
            return float(value)
        case "none":
            return None
        case _:
            text_or_bool: bool | str = value
            return text_or_bool
