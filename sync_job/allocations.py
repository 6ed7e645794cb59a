"""Allocation epochs: of the units that a rule assigns by their buckets, the share that each assignment is given.

Computed from the state's own bucket ranges, not from the plan's, so that a bug of the compiler shows as a mismatch of
expected and observed shares. Rules on one segment share their bucketing: of a unit that an earlier rule let through, it
is known which buckets it cannot have, and shares are of the buckets that are left. Source: resolver state, evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from flagedge.wire import state_pb2

AllocationKind = Literal["variant", "client_default", "fallthrough", "unassigned"]
Spans = Sequence[tuple[int, int]]
_COMMON_BUCKETS_MAX = 10_000_000


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one assignment of a rule is given. Names are full ones, None where there is none.

    `share` is 0 to 1; those of a rule add up to 1, or to 0 where no unit can reach its buckets.
    """

    flag: str
    rule: str
    segment: str
    targeting_key_selector: str
    kind: AllocationKind
    variant: str | None
    assignment_id: str | None
    share: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def allocate_shares(state: state_pb2.ResolverState) -> tuple[Allocation, ...]:
    """The allocations of all flags and rules that somebody can reach, in the state's order. Pure.

    For units without a sticky record. Earlier rules that hold in some environments only, where this one holds in more,
    do not count; nor do those whose bucket counts have no common multiple below ten million with this one's.
    """
    segments = {segment.name for segment in state.segments_no_bitsets}
    flags = {flag.name: flag for flag in served_flags(state)}
    return tuple(allocation for flag in flags.values() for allocation in _allocate_flag(flag, segments))


def served_flags(state: state_pb2.ResolverState) -> Iterator[state_pb2.Flag]:
    """The active flags that a client with a secret sees."""
    owners = ["/".join(each.name.split("/")[:2]) for each in state.client_credentials if each.HasField("client_secret")]
    seeing = {client.name for client in state.clients}.intersection(owners)
    for flag in state.flags:
        if flag.state == state_pb2.Flag.ACTIVE and not seeing.isdisjoint(flag.clients):
            yield flag


@dataclass(frozen=True, slots=True)
class _Taken:
    """Buckets whose units do not come past a rule."""

    key: tuple[str, str]
    environments: frozenset[str]
    bucket_count: int
    spans: Spans


def _allocate_flag(flag: state_pb2.Flag, segments: set[str]) -> Iterator[Allocation]:
    before: list[_Taken] = []
    for rule in flag.rules:
        if not rule.enabled or rule.segment not in segments or not rule.HasField("assignment_spec"):
            continue
        if rule.assignment_spec.bucket_count < 1:
            continue  # everybody's bucket, or an error
        owned = own_buckets(rule.assignment_spec)
        yield from _allocate_rule(flag.name, rule, _count_reached(rule, owned, before))
        taken = [
            span
            for assignment, spans in zip(rule.assignment_spec.assignments, owned, strict=True)
            if assignment.WhichOneof("assignment") in {"variant", "client_default"}
            for span in spans
        ]
        before.append(
            _Taken(_bucketing_of(rule), frozenset(rule.environments), rule.assignment_spec.bucket_count, sorted(taken))
        )


def _allocate_rule(flag: str, rule: state_pb2.Flag.Rule, reached: Sequence[int]) -> Iterator[Allocation]:
    """The allocations of a rule; `reached` counts buckets by assignment, and last those that nobody owns."""

    def allocation(kind: AllocationKind, count: int, assignment_id: str | None, variant: str = "") -> Allocation:
        share = count / whole if whole else 0.0
        selector = rule.targeting_key_selector
        return Allocation(flag, rule.name, rule.segment, selector, kind, variant or None, assignment_id, share)

    whole, unassigned = sum(reached), reached[-1]
    for assignment, count in zip(rule.assignment_spec.assignments, reached, strict=False):
        match assignment.WhichOneof("assignment"):
            case "variant":
                yield allocation("variant", count, assignment.assignment_id, assignment.variant.variant)
            case "client_default":
                yield allocation("client_default", count, assignment.assignment_id)
            case "fallthrough":
                yield allocation("fallthrough", count, assignment.assignment_id)
            case _:
                unassigned += count
    if unassigned:
        yield allocation("unassigned", unassigned, None)


def _count_reached(rule: state_pb2.Flag.Rule, owned: Sequence[Spans], before: Iterable[_Taken]) -> list[int]:
    """The buckets of each assignment that units can come with, and last those that nobody owns."""
    count = rule.assignment_spec.bucket_count
    reach: Spans = [(0, count)]
    environments = frozenset(rule.environments)
    for taken in before:
        holds_too = not taken.environments or (environments and environments <= taken.environments)
        common = math.lcm(count, taken.bucket_count)
        if taken.key == _bucketing_of(rule) and holds_too and common <= _COMMON_BUCKETS_MAX:
            reach = _subtract(_repeat(reach, count, common), _repeat(taken.spans, taken.bucket_count, common))
            owned = [_repeat(spans, count, common) for spans in owned]
            count = common
    sizes = [_measure(_intersect(spans, reach)) for spans in owned]
    return [*sizes, _measure(reach) - sum(sizes)]


def own_buckets(spec: state_pb2.Flag.AssignmentSpec) -> list[Spans]:
    """The buckets of each assignment, ascending and disjoint: where ranges overlap, the first in the list owns."""
    free: Spans = [(0, max(0, spec.bucket_count))]
    owned: list[Spans] = []
    for assignment in spec.assignments:
        ranges = _merge((each.lower, each.upper) for each in assignment.bucket_ranges)
        owned.append(_intersect(ranges, free))
        free = _subtract(free, ranges)
    return owned


def _bucketing_of(rule: state_pb2.Flag.Rule) -> tuple[str, str]:
    return rule.segment, rule.targeting_key_selector or "targeting_key"


# Spans: ascending, disjoint, upper bounds excluded


def _merge(ranges: Iterable[tuple[int, int]]) -> Spans:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(span for span in ranges if span[0] < span[1]):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _intersect(some: Spans, others: Spans) -> Spans:
    found = []
    i = j = 0
    while i < len(some) and j < len(others):
        low, high = max(some[i][0], others[j][0]), min(some[i][1], others[j][1])
        if low < high:
            found.append((low, high))
        if some[i][1] < others[j][1]:
            i += 1
        else:
            j += 1
    return found


def _subtract(some: Spans, others: Spans) -> Spans:
    edges = [edge for span in others for edge in span]
    last = some[-1][1] if some else 0
    outside = zip([0, *edges[1::2]], [*edges[::2], last], strict=True)
    return _intersect(some, [(low, high) for low, high in outside if low < high])


def _repeat(spans: Spans, count: int, common: int) -> Spans:
    """The same buckets counted up to a multiple of `count`."""
    return (
        spans
        if count == common
        else _merge((low + turn, high + turn) for turn in range(0, common, count) for low, high in spans)
    )


def _measure(spans: Spans) -> int:
    return sum(high - low for low, high in spans)
