"""Checks the segments behind flags: their targeting, the segments and bloom filters that it asks for, their bitsets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from flagedge.errors import DecodeError
from flagedge.wire import state_pb2
from sync_job.bitsets import gunzip_strictly
from sync_job.fields import all_new_fields, allocated_share, new_fields
from sync_job.findings import Finding, Found

_NO_BITSET = state_pb2.PackedBitset()
_BLOOM_STRATEGY = 1  # MURMUR128_MITZ_64


def check_segments(
    state: state_pb2.ResolverState,
    asking: Mapping[str, Mapping[str, None]],
    found: Found,
    *,
    has_materializations: bool,
) -> None:
    """Check all segments that flags lead to; `asking` has the flags by the segment that their rules name."""
    _SegmentChecker(state, asking, found, has_materializations=has_materializations).check()


class _SegmentChecker:
    """Visits segments from those that rules name on, each once."""

    def __init__(
        self,
        state: state_pb2.ResolverState,
        asking: Mapping[str, Mapping[str, None]],
        found: Found,
        *,
        has_materializations: bool,
    ) -> None:
        self._state = state
        self._asking = asking
        self._found = found
        self._has_materializations = has_materializations
        self._segments = {segment.name: segment for segment in state.segments_no_bitsets}
        # A filter that nobody understands stands only where there is no other.
        blooms = sorted(state.bloom_filters, key=lambda bloom: bloom.strategy == _BLOOM_STRATEGY)
        self._blooms = {bloom.materialized_segment: bloom for bloom in blooms}
        self._asked: dict[str, None] = {}
        # Segments that ask for a segment by their criteria.
        self._parents: dict[str, list[str]] = {}
        # What was found on a segment and is to be told with the flags that ask for it.
        self._pending: list[tuple[Finding, str, str]] = []

    def check(self) -> None:
        self._check_segments()
        self._check_bitsets()
        for finding, segment, what in self._pending:
            behind = self._flags_behind(segment)
            names = behind if finding is Finding.STICKY_OFF else [f"{what} in {segment} ({_listed(behind)})"]
            self._found.add(finding, *names)

    def _check_segments(self) -> None:
        """Check the segments of the rules and all that these lead to."""
        waiting = list(self._asking)
        while waiting:
            segment = self._segments[waiting.pop()]
            if segment.name in self._asked:
                continue
            self._asked[segment.name] = None
            self._put_off_new_fields(segment.name, new_fields(segment))
            for name in self._check_targeting(segment):
                self._parents.setdefault(name, []).append(segment.name)
                waiting.append(name)

    def _check_targeting(self, segment: state_pb2.Segment) -> Iterator[str]:
        """Check a segment's targeting; the names of the segments that it asks for."""
        targeting = segment.targeting
        self._put_off_new_fields(segment.name, new_fields(targeting))
        if not targeting.HasField("expression"):
            if targeting.criteria:
                self._found.add(Finding.EXPRESSION_MISSING, segment.name)
            return
        self._put_off_new_fields(segment.name, all_new_fields(targeting.expression))
        for ref in dict.fromkeys(_refs(targeting.expression)):
            if ref is None:
                self._found.add(Finding.EXPRESSION_UNSET, segment.name)
            elif ref not in targeting.criteria:
                self._found.add(Finding.CRITERION_MISSING, f"{segment.name} ({ref})")
            else:
                yield from self._check_criterion(segment.name, ref, targeting.criteria[ref])

    def _check_criterion(self, segment: str, ref: str, criterion: state_pb2.Criterion) -> Iterator[str]:
        self._put_off_new_fields(segment, all_new_fields(criterion))
        match criterion.WhichOneof("criterion"):
            case "attribute":
                if not _is_understood(criterion.attribute):
                    self._found.add(
                        Finding.CRITERION_NOT_UNDERSTOOD, f"{segment} ({criterion.attribute.attribute_name})"
                    )
            case "segment":
                name = criterion.segment.segment
                if name in self._segments:
                    yield name
                else:
                    self._found.add(Finding.SEGMENT_MISSING, f"{segment} ({name})")
            case "materialized_segment":
                self._check_materialized(segment, criterion.materialized_segment.materialized_segment)
            case _:
                self._found.add(Finding.CRITERION_UNSET, f"{segment} ({ref})")

    def _check_materialized(self, segment: str, name: str) -> None:
        bloom = self._blooms.get(name)
        if bloom is None:
            if not self._has_materializations:
                self._pending.append((Finding.STICKY_OFF, segment, name))
            return
        self._put_off_new_fields(segment, new_fields(bloom))
        if bloom.strategy != _BLOOM_STRATEGY:
            self._pending.append((Finding.BLOOM_STRATEGY_UNKNOWN, segment, f"{name} (strategy {bloom.strategy})"))
        elif bloom.hash_function_count > 0 and bloom.bit_count < 1:
            self._found.add(Finding.BLOOM_BITS_MISSING, name)
        elif bloom.hash_function_count > 0 and bloom.bit_count > 8 * len(bloom.data):
            self._found.add(Finding.BLOOM_CUT_SHORT, name)

    def _put_off_new_fields(self, segment: str, fields: Iterable[str]) -> None:
        self._pending += [(Finding.FIELD_UNKNOWN, segment, field) for field in fields]

    def _flags_behind(self, segment: str) -> list[str]:
        """The flags that ask for a segment, directly or through others."""
        waiting, seen = [segment], {segment}
        flags: dict[str, None] = {}
        while waiting:
            name = waiting.pop()
            flags |= self._asking.get(name, {})
            parents = [parent for parent in self._parents.get(name, []) if parent not in seen]
            seen.update(parents)
            waiting += parents
        return list(flags)

    def _check_bitsets(self) -> None:
        for name in _twice(bitset.segment for bitset in self._state.bitsets):
            self._found.add(Finding.BITSET_TWICE, name)
        bitsets = {bitset.segment: bitset for bitset in self._state.bitsets}
        for name, bitset in bitsets.items():
            kind = bitset.WhichOneof("bitset")
            if kind == "full_bitset" and not bitset.full_bitset:
                self._found.add(Finding.BITSET_DAMAGED, f"bitset of {name} is marked as not full and holds nothing")
            elif kind == "gzipped_bitset":
                try:
                    gunzip_strictly(bitset.gzipped_bitset, segment=name)
                except DecodeError as error:
                    self._found.add(Finding.BITSET_DAMAGED, error.message)
        for name in self._asked:
            found = bitsets.get(name, _NO_BITSET)
            self._put_off_new_fields(name, new_fields(found))
            if found.WhichOneof("bitset") is None and allocated_share(self._segments[name]) < 1:
                self._found.add(Finding.BITSET_MISSING, name)


def _refs(expression: state_pb2.Expression) -> Iterator[str | None]:
    """The criteria that an expression names; None for a part of no kind."""
    match expression.WhichOneof("expression"):
        case "ref":
            yield expression.ref
        case "not":
            yield from _refs(getattr(expression, "not"))
        case "and" | "or" as kind:
            for operand in getattr(expression, kind).operands:
                yield from _refs(operand)
        case _:
            yield None


def _is_understood(rules: state_pb2.AttributeCriterion | state_pb2.InnerRule) -> bool:
    match rules.WhichOneof("rule"):
        case "any_rule" | "all_rule" as kind:
            outer = getattr(rules, kind)
            return outer.HasField("rule") and _is_understood(outer.rule)
        case "eq_rule":
            return rules.eq_rule.HasField("value")
        case kind:
            return kind is not None


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _listed(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join([*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])])
