"""Segments' targeting, prepared for the Worker: criteria once each, operands parsed, expressions as small trees.

A criterion becomes one of
    {"segment": index}                                       another segment, asked for the same unit
    {"materialized": name, "bloom"?: [k, bits, offset, bytes]}
    {"attribute": index, "over"?: "any" | "all", ...test}
where a test is `eq` (operand), `in` (operands), `range` ([start, inclusive, end, inclusive]), `starts`, `ends` or
`contains` (text); no test at all means that the rule is not understood, which skips the flag rule that asks.
An operand is [kind, value]: bool, number (or "NaN", "Infinity", "-Infinity"), string, timestamp [seconds, nanos],
version [text, [a, b, c, d]], list [operands], none.
An expression is true, false, a criterion's index, or ["!", e], ["&", e...], ["|", e...].
Source: resolver state, `Targeting`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from flagedge.wire import state_pb2

Json = Any
VERSION_PARTS_DIGITS_MAX = 10


class Interned:
    """Values numbered in order of first sight; equal JSON gets the same number."""

    def __init__(self) -> None:
        self.items: list[Json] = []
        self._numbers: dict[str, int] = {}

    def number_of(self, item: Json) -> int:
        key = json.dumps(item, sort_keys=True)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.items)
            self.items.append(item)
        return number


class TargetingCompiler:
    """Compiles `Targeting` messages, sharing attributes and criteria between all segments of a state."""

    def __init__(
        self, *, segment_number: Callable[[str], int | None], bloom_filter: Callable[[str], list[int] | None]
    ) -> None:
        self.attributes = Interned()
        self.criteria = Interned()
        self._segment_number = segment_number
        self._bloom_filter = bloom_filter

    def attribute_number(self, path: str) -> int:
        """The number of an attribute path; it is split at dots, as a key that holds a dot cannot be reached."""
        return self.attributes.number_of(path.split("."))

    def compile_targeting(self, segment: state_pb2.Segment) -> Json:
        if not segment.HasField("targeting") or not segment.targeting.HasField("expression"):
            return True
        return self._expression(segment.targeting.expression, segment.targeting)

    def _expression(self, expression: state_pb2.Expression, targeting: state_pb2.Targeting) -> Json:
        kind = expression.WhichOneof("expression")
        if kind == "ref":
            return self._criterion(targeting, expression.ref)
        if kind == "not":
            return ["!", self._expression(getattr(expression, "not"), targeting)]
        if kind in {"and", "or"}:
            operands = getattr(expression, kind).operands
            return ["&" if kind == "and" else "|", *(self._expression(operand, targeting) for operand in operands)]
        return False

    def _criterion(self, targeting: state_pb2.Targeting, ref: str) -> Json:
        if ref not in targeting.criteria:
            return False
        criterion = targeting.criteria[ref]
        kind = criterion.WhichOneof("criterion")
        if kind == "segment":
            number = self._segment_number(criterion.segment.segment)
            return False if number is None else self.criteria.number_of({"segment": number})
        if kind == "materialized_segment":
            name = criterion.materialized_segment.materialized_segment
            bloom = self._bloom_filter(name)
            return self.criteria.number_of({"materialized": name} | ({"bloom": bloom} if bloom else {}))
        if kind == "attribute":
            attribute = self.attribute_number(criterion.attribute.attribute_name)
            return self.criteria.number_of({"attribute": attribute} | _attribute_test(criterion.attribute))
        return False


def _attribute_test(criterion: state_pb2.AttributeCriterion) -> dict[str, Json]:
    kind = criterion.WhichOneof("rule")
    if kind in {"any_rule", "all_rule"}:
        outer = getattr(criterion, kind)
        # Without any inner rule the criterion is not understood; with an odd one, only where it is looked at.
        return {"over": "any" if kind == "any_rule" else "all"} | _test(outer.rule) if outer.HasField("rule") else {}
    return _test(criterion)


def _test(rules: state_pb2.AttributeCriterion | state_pb2.InnerRule) -> dict[str, Json]:
    kind = rules.WhichOneof("rule")
    if kind == "eq_rule":
        return {"eq": _operand(rules.eq_rule.value)} if rules.eq_rule.HasField("value") else {}
    if kind == "set_rule":
        return {"in": [_operand(value) for value in rules.set_rule.values]}
    if kind == "range_rule":
        return {"range": _range(rules.range_rule)}
    if kind == "starts_with_rule":
        return {"starts": rules.starts_with_rule.value}
    if kind == "ends_with_rule":
        return {"ends": rules.ends_with_rule.value}
    if kind == "contains_rule":
        return {"contains": rules.contains_rule.value}
    return {}


def _range(rule: state_pb2.RangeRule) -> list[Json]:
    start, end = rule.WhichOneof("start"), rule.WhichOneof("end")
    return [
        _operand(getattr(rule, start)) if start else None,
        start == "start_inclusive",
        _operand(getattr(rule, end)) if end else None,
        end == "end_inclusive",
    ]


def _operand(value: state_pb2.TargetingValue) -> list[Json]:
    match value.WhichOneof("value"):
        case "bool_value":
            return ["bool", value.bool_value]
        case "string_value":
            return ["string", value.string_value]
        case "number_value":
            return ["number", _number(value.number_value)]
        case "timestamp_value":
            return ["timestamp", [value.timestamp_value.seconds, value.timestamp_value.nanos]]
        case "version_value":
            text = value.version_value.version
            return ["version", [text, list(parse_version(text))]]
        case "list_value":
            return ["list", [_operand(item) for item in value.list_value.values]]
        case _:
            return ["none", None]


def _number(number: float) -> float | str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def parse_version(text: str) -> tuple[int, int, int, int]:
    """A version as four numbers; what is not one is (0, 0, 0, 0), as upstream has it.

    Cut at the first `-`, two to four parts of 1 to 10 ASCII digits; with three parts, a third of more than
    three characters is a tag (the fourth number).
    """
    parts = text.partition("-")[0].split(".")
    if not 2 <= len(parts) <= 4 or not all(_is_version_part(part) for part in parts):
        return (0, 0, 0, 0)
    numbers = [int(part) for part in parts]
    if len(parts) == 3 and len(parts[2]) > 3:
        return (numbers[0], numbers[1], 0, numbers[2])
    first, second, third, fourth = [*numbers, 0, 0][:4]
    return (first, second, third, fourth)


def _is_version_part(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= VERSION_PARTS_DIGITS_MAX
