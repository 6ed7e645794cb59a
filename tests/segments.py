"""What segments are made of: values, criteria, expressions, bitsets and bloom filters.

Source of the shapes: `proto/flagedge/wire/state.proto`; of the bloom filter: Guava's `MURMUR128_MITZ_64`. Tests import
these from `builders`, which explains the naming.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp
from murmur import murmur3_x64_128

from flagedge.wire.state_pb2 import (
    AttributeCriterion,
    BloomFilter,
    Criterion,
    EqRule,
    Expression,
    InnerRule,
    ListRule,
    PackedBitset,
    RangeRule,
    Segment,
    SetRule,
    Targeting,
    TargetingValue,
    TextRule,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

BITSET_LENGTH = 1_000_000
UNSET: Any = object()


def full_name(collection: str, name: str) -> str:
    """`collection/name`, unless the name has a slash already or is empty."""
    return f"{collection}/{name}" if name and "/" not in name else name


# --- values ---------------------------------------------------------------------------------------------------------


def text(value: str) -> TargetingValue:
    """A string."""
    return TargetingValue(string_value=value)


def number(value: float) -> TargetingValue:
    """A number."""
    return TargetingValue(number_value=value)


def boolean(*, value: bool = True) -> TargetingValue:
    """A truth value."""
    return TargetingValue(bool_value=value)


def timestamp(moment: datetime | str | int = 0, nanos: int = 0) -> TargetingValue:
    """A moment, from an aware datetime, RFC 3339 text or seconds since 1970."""
    if isinstance(moment, int):
        return TargetingValue(timestamp_value=Timestamp(seconds=moment, nanos=nanos))
    result = TargetingValue()
    if isinstance(moment, str):
        result.timestamp_value.FromJsonString(moment)
    else:
        result.timestamp_value.FromDatetime(moment)
    return result


def version(value: str) -> TargetingValue:
    """A version; any text may stand in it."""
    return TargetingValue(version_value=TargetingValue.Version(version=value))


def list_of(*values: Any) -> TargetingValue:
    """A list of values."""
    return TargetingValue(list_value=TargetingValue.List(values=[_value(item) for item in values]))


def kindless() -> TargetingValue:
    """A value message without a kind: in an Eq rule the test for null."""
    return TargetingValue()


def _value(data: Any) -> TargetingValue:
    if isinstance(data, TargetingValue):
        return data
    if data is None:
        return kindless()
    for kinds, build in _BUILDERS:
        if isinstance(data, kinds):
            return build(data)
    raise TypeError(f"not a targeting value: {data!r}")


_BUILDERS: list[tuple[Any, Any]] = [  # a bool is an int and a str is a sequence: the order matters
    (bool, lambda data: boolean(value=data)),
    ((int, float), number),
    (str, text),
    (datetime, timestamp),
    (Sequence, lambda data: list_of(*data)),
]


# --- criteria -------------------------------------------------------------------------------------------------------


def _attribute(name: str, **rule: Any) -> Criterion:
    return Criterion(attribute=AttributeCriterion(attribute_name=name, **rule))


def eq(name: str, value: Any = UNSET) -> Criterion:
    """The attribute equals the value; None is the test for null, no value at all an unrecognized rule."""
    return _attribute(name, eq_rule=EqRule(value=None if value is UNSET else _value(value)))


def one_of(name: str, *values: Any) -> Criterion:
    """The attribute equals one of the values."""
    return _attribute(name, set_rule=SetRule(values=[_value(value) for value in values]))


def in_range(
    name: str, *, at_least: Any = UNSET, above: Any = UNSET, at_most: Any = UNSET, below: Any = UNSET
) -> Criterion:
    """The attribute lies between a start (`at_least` or `above`) and an end (`at_most` or `below`)."""
    bounds = {"start_inclusive": at_least, "start_exclusive": above, "end_inclusive": at_most, "end_exclusive": below}
    given = {key: _value(bound) for key, bound in bounds.items() if bound is not UNSET}
    return _attribute(name, range_rule=RangeRule(**given))


def starts_with(name: str, prefix: str) -> Criterion:
    """The attribute starts with the prefix."""
    return _attribute(name, starts_with_rule=TextRule(value=prefix))


def ends_with(name: str, suffix: str) -> Criterion:
    """The attribute ends with the suffix."""
    return _attribute(name, ends_with_rule=TextRule(value=suffix))


def contains(name: str, part: str) -> Criterion:
    """The attribute contains the part."""
    return _attribute(name, contains_rule=TextRule(value=part))


def any_of(inner: Criterion | str) -> Criterion:
    """Some element fulfils the rule: `any_of(eq("tags", "new"))`; a bare name leaves the inner rule out."""
    name, rule = _list_rule(inner)
    return _attribute(name, any_rule=rule)


def all_of(inner: Criterion | str) -> Criterion:
    """Every element fulfils the rule: `all_of(in_range("scores", above=3))`; a bare name leaves the inner rule out."""
    name, rule = _list_rule(inner)
    return _attribute(name, all_rule=rule)


def _list_rule(inner: Criterion | str) -> tuple[str, ListRule]:
    if isinstance(inner, str):
        return inner, ListRule()
    kind = inner.attribute.WhichOneof("rule")
    rule = InnerRule() if kind is None else InnerRule(**{kind: getattr(inner.attribute, kind)})
    return inner.attribute.attribute_name, ListRule(rule=rule)


def no_rule(name: str) -> Criterion:
    """An attribute criterion without a rule: unrecognized."""
    return _attribute(name)


def in_segment(name: str) -> Criterion:
    """The unit is in another segment."""
    return Criterion(segment=Criterion.SegmentCriterion(segment=full_name("segments", name)))


def in_materialized(name: str) -> Criterion:
    """The unit is in a materialized segment."""
    return Criterion(materialized_segment=Criterion.MaterializedSegmentCriterion(materialized_segment=name))


# --- expressions and segments ---------------------------------------------------------------------------------------


def ref(criterion_id: str) -> Expression:
    """The criterion of that id; `not_`, `and_` and `or_` take the bare id as well."""
    return Expression(ref=criterion_id)


def _expression(operand: Expression | str) -> Expression:
    return ref(operand) if isinstance(operand, str) else operand


def not_(operand: Expression | str) -> Expression:
    """The negation."""
    return Expression(**{"not": _expression(operand)})


def and_(*operands: Expression | str) -> Expression:
    """All of them; true without any."""
    return Expression(**{"and": Expression.Operands(operands=[_expression(operand) for operand in operands])})


def or_(*operands: Expression | str) -> Expression:
    """Any of them; false without any."""
    return Expression(**{"or": Expression.Operands(operands=[_expression(operand) for operand in operands])})


def segment(
    name: str = "s",
    *where: Criterion,
    criteria: Mapping[str, Criterion] | None = None,
    expression: Expression | str | None = None,
) -> Segment:
    """A segment: of everybody, of those who meet all of `where`, or of `criteria` by id under an expression.

    The criteria of `where` get the ids "c0", "c1", … and are joined by AND; one alone stands as a bare reference.
    """
    if where:
        criteria = {f"c{index}": criterion for index, criterion in enumerate(where)}
        expression = ref("c0") if len(where) == 1 else and_(*criteria)
    targeting = None
    if criteria is not None or expression is not None:
        joined = None if expression is None else _expression(expression)
        targeting = Targeting(criteria=criteria or {}, expression=joined)
    return Segment(name=full_name("segments", name), targeting=targeting)


# --- bitsets and bloom filters --------------------------------------------------------------------------------------


def packed_bits(indexes: Iterable[int], length: int = BITSET_LENGTH) -> bytes:
    """Bits packed as Confidence does: bit i is byte i>>3, mask 1<<(i&7); `length` is rounded up to whole bytes."""
    packed = bytearray((length + 7) // 8)
    for index in indexes:
        packed[index >> 3] |= 1 << (index & 7)
    return bytes(packed)


def gzipped(data: bytes) -> bytes:
    """A gzip member with the bare ten byte header, the same for the same data on every machine with the same zlib."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflater.compress(data) + deflater.flush()
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    return header + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFF_FFFF)


@lru_cache(maxsize=64)
def _random_bits(share: float, seed: int, length: int) -> bytes:
    chosen = random.Random(seed).sample(range(length), round(share * length))
    return gzipped(packed_bits(chosen, length))


def bitset(
    segment: str = "s",
    bits: Iterable[int] | bytes = (),
    *,
    share: float | None = None,
    seed: int = 0,
    full: bool = False,
    length: int = BITSET_LENGTH,
) -> PackedBitset:
    """A segment's bitset: the given bit indexes (or packed bytes), a random `share` of all bits, or `full`."""
    name = full_name("segments", segment)
    if full:
        return PackedBitset(segment=name, full_bitset=True)
    if share is not None:
        return PackedBitset(segment=name, gzipped_bitset=_random_bits(share, seed, length))
    packed = bits if isinstance(bits, bytes) else packed_bits(bits, length)
    return PackedBitset(segment=name, gzipped_bitset=gzipped(packed))


def bloom_filter(
    name: str, units: Iterable[str] = (), *, hash_count: int = 5, bit_count: int = 960, strategy: int = 1
) -> BloomFilter:
    """A bloom filter (Guava's MURMUR128_MITZ_64) of a materialized segment that holds the units."""
    longs = [0] * ((bit_count + 63) // 64)
    for unit in units:
        low, high = murmur3_x64_128(unit.encode())
        combined = low
        for _ in range(hash_count):
            index = (combined & 0x7FFF_FFFF_FFFF_FFFF) % bit_count
            longs[index >> 6] |= 1 << (index & 63)
            combined = (combined + high) & 0xFFFF_FFFF_FFFF_FFFF
    return BloomFilter(
        materialized_segment=name,
        data=struct.pack(f">{len(longs)}Q", *longs),
        hash_function_count=hash_count,
        bit_count=bit_count,
        strategy=strategy,
    )
