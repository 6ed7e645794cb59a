"""Contexts to ask a new version about: what its state's rules tell apart, taken from the rules themselves.

For every attribute that a criterion looks at: operands, their neighbours on both sides, something else, and nothing.
Contexts are random combinations of these, with a unit or without; units also lie on both sides of every boundary
between the variants of a rule. The same seed gives the same contexts.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from flagedge.wire import state_pb2
from sync_job.units import bucket

_MISSING = object()
_UNIT_DRAWS = 1500
_UNITS_PER_BOUNDARY = 2
_SALTS_MAX = 12
_BOUNDARIES_MAX = 60
_TARGETING_KEY = "targeting_key"


def sample_contexts(state: state_pb2.ResolverState, count: int, *, seed: int) -> list[dict[str, Any]]:
    """At least `count` contexts, the empty one first; more where that many units are worth asking about."""
    draw = random.Random(seed)  # noqa: S311 (a sample, no secret)
    values = _values_by_attribute(state)
    selectors = {rule.targeting_key_selector or _TARGETING_KEY for rule in _rules(state)} | {_TARGETING_KEY}
    units = [*_boundary_units(state, draw), *(f"unit-{draw.getrandbits(48):x}" for _ in range(20)), 12, "", "x" * 101]
    contexts: list[dict[str, Any]] = [{}]
    while len(contexts) < max(count, len(units)):
        context: dict[str, Any] = {}
        for path in sorted(values):
            value = draw.choice(values[path])
            if value is not _MISSING:
                _place(context, path.split("."), value)
        for selector in sorted(selectors):
            if draw.random() < 0.9:
                _place(context, selector.split("."), units[len(contexts) % len(units)])
        contexts.append(context)
    return contexts


def sample_visitors(states: Sequence[state_pb2.ResolverState], count: int, *, seed: int) -> Iterator[dict[str, Any]]:
    """`count` contexts of different visitors: a new unit for every selector, attributes drawn from all the states."""
    draw = random.Random(seed)  # noqa: S311 (a sample, no secret)
    values: dict[str, list[Any]] = defaultdict(list)
    for state in states:
        for path, found in _values_by_attribute(state).items():
            values[path] += found
    selectors = {rule.targeting_key_selector or _TARGETING_KEY for state in states for rule in _rules(state)}
    for _ in range(count):
        context: dict[str, Any] = {}
        for path in sorted(values):
            value = draw.choice(values[path])
            if value is not _MISSING:
                _place(context, path.split("."), value)
        for selector in sorted(selectors):
            _place(context, selector.split("."), f"unit-{draw.getrandbits(64):x}")
        yield context


def _rules(state: state_pb2.ResolverState) -> Iterator[state_pb2.Flag.Rule]:
    for flag in state.flags:
        yield from flag.rules


def _boundary_units(state: state_pb2.ResolverState, draw: random.Random) -> list[str]:
    """Units whose buckets lie next to the boundaries of rules' ranges, on both sides.

    Hashing is what takes time here, so boundaries are taken from a few of all segments, other ones for another seed.
    """
    drawn = [f"unit-{draw.getrandbits(48):x}" for _ in range(_UNIT_DRAWS)]
    edges: dict[tuple[str, int], set[int]] = defaultdict(set)
    for rule in _rules(state):
        spec = rule.assignment_spec
        if spec.bucket_count > 0:
            ranges = (part for assignment in spec.assignments for part in assignment.bucket_ranges)
            edges[rule.segment.partition("/")[2], spec.bucket_count].update(_ends(ranges))
    buckets = {}
    for segment, bucket_count in draw.sample(sorted(edges), min(len(edges), _SALTS_MAX)):
        found = sorted((bucket(f"{segment}|{unit}", bucket_count), unit) for unit in drawn)
        buckets[segment, bucket_count] = found
    boundaries = [(salt, edge) for salt in buckets for edge in sorted(edges[salt])]
    units: set[str] = set()
    for salt, edge in draw.sample(boundaries, min(len(boundaries), _BOUNDARIES_MAX)):
        at = bisect_left(buckets[salt], (edge, ""))
        beside = buckets[salt][max(0, at - _UNITS_PER_BOUNDARY) : at + _UNITS_PER_BOUNDARY]
        units.update(unit for _, unit in beside)
    return sorted(units)


def _ends(ranges: Iterable[state_pb2.Flag.BucketRange]) -> Iterator[int]:
    for part in ranges:
        yield part.lower
        yield part.upper


def _values_by_attribute(state: state_pb2.ResolverState) -> Mapping[str, list[Any]]:
    """By dotted path, everything that may make a difference."""
    values: dict[str, list[Any]] = defaultdict(lambda: [_MISSING, None, "something else"])
    for segment in state.segments_no_bitsets:
        for criterion in segment.targeting.criteria.values():
            if criterion.WhichOneof("criterion") == "attribute":
                attribute = criterion.attribute
                values[attribute.attribute_name] += _values_of(attribute)
    return values


def _values_of(attribute: state_pb2.AttributeCriterion) -> list[Any]:
    kind = attribute.WhichOneof("rule")
    if kind is None:
        return []
    rule = getattr(attribute, kind)
    if kind in {"any_rule", "all_rule"}:
        inner = rule.rule.WhichOneof("rule")
        found = _values_of_rule(inner, getattr(rule.rule, inner)) if inner else []
        return [[], *([value] for value in found), found[:3]]
    return _values_of_rule(kind, rule)


def _values_of_rule(kind: str, rule: Any) -> list[Any]:
    if kind == "eq_rule":
        return list(_neighbours(rule.value))
    if kind == "set_rule":
        return [value for operand in rule.values for value in _neighbours(operand)]
    if kind == "range_rule":
        ends = [rule.WhichOneof("start"), rule.WhichOneof("end")]
        return [value for end in ends if end for value in _neighbours(getattr(rule, end))]
    return [rule.value, f"x{rule.value}", f"{rule.value}x", rule.value[:-1]]


def _neighbours(operand: state_pb2.TargetingValue) -> Iterable[Any]:
    """An operand as a context would hold it, and what lies just beside it."""
    match operand.WhichOneof("value"):
        case "bool_value":
            return (True, False)
        case "string_value":
            return (operand.string_value, f"{operand.string_value}x")
        case "number_value":
            number = operand.number_value
            beside = (math.nextafter(number, side) for side in (-math.inf, math.inf))
            return [value for value in (number, *beside, number + 1) if math.isfinite(value)]
        case "timestamp_value":
            return _moments(operand.timestamp_value.seconds)
        case "version_value":
            return (operand.version_value.version, f"{operand.version_value.version}.1", "0.0.1")
        case "list_value":
            return [[value for item in operand.list_value.values for value in _neighbours(item)][:3]]
        case _:
            return ()


def _moments(seconds: int) -> list[str]:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        return [(moment + timedelta(seconds=by)).strftime("%Y-%m-%dT%H:%M:%SZ") for by in (-1, 0, 1)]
    except OverflowError:
        return []


def _place(context: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value below structs; where something else stands in the way, it stays."""
    for step in path[:-1]:
        below = context.setdefault(step, {})
        if not isinstance(below, dict):
            return
        context = below
    context[path[-1]] = value
