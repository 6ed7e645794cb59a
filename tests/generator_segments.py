"""Generated segments: targeting of every shape over the shared attributes and operands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builders import (
    UNSET,
    all_of,
    and_,
    any_of,
    boolean,
    contains,
    ends_with,
    eq,
    in_materialized,
    in_range,
    in_segment,
    kindless,
    list_of,
    no_rule,
    not_,
    number,
    one_of,
    or_,
    ref,
    segment,
    starts_with,
    text,
    timestamp,
    version,
)
from vocabulary import ATTRIBUTES, MATERIALIZATIONS, MOMENTS, NUMBERS, TEXTS, VERSIONS

from flagedge.wire.state_pb2 import Criterion, Expression

if TYPE_CHECKING:
    from generator import Draw

    from flagedge.wire.state_pb2 import Segment, TargetingValue

_TEXT_RULES = {"starts with": starts_with, "ends with": ends_with, "contains": contains}


class SegmentGenerator:
    """Draws segments that may refer to each other by the given names."""

    def __init__(self, draw: Draw, names: list[str]) -> None:
        self._draw = draw
        self._names = names
        self._owner = ""

    def segment(self, name: str) -> Segment:
        """A segment of that name."""
        draw = self._draw
        self._owner = name
        kind = draw.option("targeting")
        other = draw.one(self._names)
        match kind:
            case "everybody":
                return segment(name)
            case "no criteria":
                return segment(name, criteria={}, expression=draw.one([None, and_(), ref("c0")]))
            case "self-negation":
                return segment(name, criteria={"c0": in_segment(name)}, expression=not_("c0"))
            case "diamond":
                both = {"c0": in_segment(other), "c1": in_segment(other)}
                return segment(name, criteria=both, expression=draw.one([and_, or_])("c0", "c1"))
        count = 1 if kind in ("one", "not", "no expression") else draw.number(2, 3)
        criteria = {key: self._criterion() for key in ("c0", "", "__proto__")[:count]}
        expression = {
            "one": ref("c0"), "not": not_("c0"), "and": and_(*criteria), "or": or_(*criteria), "no expression": None,
            "kindless expression": Expression(),
        }  # fmt: skip
        chosen = expression[kind] if kind in expression else self._expression(list(criteria), 3)
        return segment(name, criteria=criteria, expression=chosen)

    def bare_segment(self) -> Segment:
        """A segment whose name has no slash."""
        built = segment("bare")
        built.name = "bare"
        return built

    def _expression(self, ids: list[str], depth: int) -> Expression:
        draw = self._draw
        kind = draw.option("expression")
        simple = {
            "empty and": and_(), "empty or": or_(), "kindless": Expression(), "unknown ref": ref("unknown"),
            "ref": ref(draw.one(ids)),
        }  # fmt: skip
        if kind in simple or depth == 0:
            return simple.get(kind, simple["ref"])
        if kind == "not":
            return not_(self._expression(ids, depth - 1))
        operands = [self._expression(ids, depth - 1) for _ in range(draw.number(1, 3))]
        return (and_ if kind == "and" else or_)(*operands)

    def _criterion(self) -> Criterion:
        draw = self._draw
        match draw.option("criterion"):
            case "kindless":
                return Criterion()
            case "materialized segment":
                return in_materialized(draw.one(MATERIALIZATIONS))
            case "segment":
                names = {"any": draw.one(self._names), "itself": self._owner, "unknown": "unknown"}
                return in_segment(names[draw.option("segment criterion")])
        return self._attribute()

    # --- attributes

    def _attribute(self) -> Criterion:
        draw = self._draw
        sort = draw.option("attribute")
        name = draw.one(ATTRIBUTES[sort])
        kind = draw.option("attribute rule")
        if kind == "none":
            return no_rule(name)
        if kind in ("any", "all"):
            build = any_of if kind == "any" else all_of
            inner = draw.option("inner rule")
            if inner == "absent":
                return build(name)
            return build(no_rule(name) if inner == "kindless" else self._rule(name, sort, inner))
        return self._rule(name, sort, kind)

    def _rule(self, name: str, sort: str, kind: str) -> Criterion:
        draw = self._draw
        if kind in _TEXT_RULES:
            word = draw.one(TEXTS)
            cut = draw.number(0, len(word))
            return _TEXT_RULES[kind](name, draw.one([word, word[:cut], word[cut:]]))
        match kind:
            case "eq":
                how = draw.option("eq value")
                value = {"absent": UNSET, "kindless": kindless()}.get(how)
                return eq(name, value if value is not None else self._operand(sort))
            case "set":
                return one_of(name, *self._set_values(sort))
        return in_range(name, **self._bounds(sort))

    def _set_values(self, sort: str) -> list[TargetingValue]:
        draw = self._draw
        count = draw.number(1, 4)
        match draw.option("set values"):
            case "empty":
                return []
            case "mixed kinds":
                mixed = [operand(draw, draw.one(list(ATTRIBUTES))) for _ in range(count + 1)]
                return [*mixed, list_of(draw.one(TEXTS))] if draw.chance(0.3) else mixed
        return [operand(draw, sort) for _ in range(count)]

    def _bounds(self, sort: str) -> dict[str, Any]:
        draw = self._draw
        which = draw.option("range")
        start = "at_least" if draw.option("start bound") == "inclusive" else "above"
        end = "at_most" if draw.option("end bound") == "inclusive" else "below"
        if which == "mixed kinds":
            return {start: operand(draw, sort), end: operand(draw, draw.one(list(ATTRIBUTES)))}
        pair = [self._operand(sort), operand(draw, sort)]
        if draw.chance(0.9):
            pair.sort(key=_order)
        given = {start: pair[0], end: pair[1]}
        keep = {"both": (start, end), "start": (start,), "end": (end,), "none": ()}[which]
        return {key: given[key] for key in keep}

    def _operand(self, sort: str) -> TargetingValue:
        draw = self._draw
        match draw.option("value kind"):
            case "own":
                return operand(draw, sort)
            case "list":
                return list_of(*(operand(draw, sort) for _ in range(draw.number(0, 2))))
            case "kindless":
                return kindless()
            case kind:
                return operand(draw, kind)


def operand(draw: Draw, sort: str) -> TargetingValue:
    """An operand for an attribute of that sort."""
    match sort:
        case "number" | "number list":
            return number(draw.one(NUMBERS))
        case "bool":
            return boolean(value=draw.chance(0.6))
        case "timestamp":
            return timestamp(*draw.one(MOMENTS))
        case "version":
            return version(draw.one(VERSIONS))
    return text(draw.one(TEXTS))


def _order(value: TargetingValue) -> Any:
    match value.WhichOneof("value"):
        case "number_value":
            return (1, value.number_value, 0)
        case "timestamp_value":
            return (2, value.timestamp_value.seconds, value.timestamp_value.nanos)
        case "version_value":
            return (3, value.version_value.version, 0)
        case "string_value":
            return (4, value.string_value, 0)
    return (0, 0, 0)
