"""Whom segments are about: targeting in words and as data, and the share of all units. Source: resolver state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flagedge.errors import DecodeError
from flagedge.wire import state_pb2
from sync_job.bitsets import BUCKET_COUNT, gunzip_strictly
from sync_job.criteria import operator_of
from sync_job.targeting import TargetingCompiler
from sync_job.words import short, test_in_words

Json = Any
_WORDS = {"&": " and ", "|": " or "}


@dataclass(frozen=True, slots=True)
class Target:
    """A segment. `share` of all units may be in it at all (0 to 1), whom `digest` tells from others; `asks` names the
    segments that its targeting asks for. `targeting` is an expression as in the plan (docs/plan.md), but with its
    criteria written out.
    """

    name: str
    targeting: Json
    text: str
    share: float
    digest: str
    asks: tuple[str, ...]


class TargetReader:
    """Reads the segments of one state, each when it is first asked for."""

    def __init__(self, state: state_pb2.ResolverState) -> None:
        self._segments = {segment.name: segment for segment in state.segments_no_bitsets}
        self._bitsets = {
            bitset.segment: bitset for bitset in state.bitsets if bitset.WhichOneof("bitset") == "gzipped_bitset"
        }
        self._blooms = {bloom.materialized_segment: bloom for bloom in state.bloom_filters}
        self._read: dict[str, Target | None] = {}

    def read(self, name: str) -> Target | None:
        """None for a name that the state does not have."""
        if name not in self._read:
            segment = self._segments.get(name)
            self._read[name] = None if segment is None else self._target(segment)
        return self._read[name]

    def reach(self, name: str) -> Mapping[str, Target]:
        """The segment and all that it leads to, by name; without those that are not there."""
        found: dict[str, Target] = {}
        waiting = [name]
        while waiting:
            target = self.read(waiting.pop(0))
            if target is not None and target.name not in found:
                found[target.name] = target
                waiting += target.asks
        return found

    def _target(self, segment: state_pb2.Segment) -> Target:
        asks: list[str] = []

        def number_of(name: str) -> int:
            asks.append(name)
            return len(asks) - 1

        compiler = TargetingCompiler(segment_number=number_of, bloom_filter=lambda _: None)
        expression = compiler.compile_targeting(segment)
        words = _Words(compiler, asks)
        share, digest = self._allocation(segment.name)
        materialized = [
            criterion.materialized_segment.materialized_segment
            for criterion in segment.targeting.criteria.values()
            if criterion.WhichOneof("criterion") == "materialized_segment"
        ]
        for name in sorted(materialized):
            digest += _digest(self._blooms[name].SerializeToString(deterministic=True)) if name in self._blooms else ""
        return Target(segment.name, words.spell(expression), words.say(expression), share, digest, tuple(asks))

    def _allocation(self, name: str) -> tuple[float, str]:
        """The share of all units in the segment's bitset, and what tells bitsets apart; all of them without one."""
        if name not in self._bitsets:
            return 1.0, ""
        try:
            bits = gunzip_strictly(self._bitsets[name].gzipped_bitset, segment=name)
        except DecodeError:
            return 0.0, "damaged"
        number = int.from_bytes(bits, "little") & ((1 << BUCKET_COUNT) - 1)
        share = number.bit_count() / BUCKET_COUNT
        return share, "" if share == 1 else _digest(number.to_bytes(BUCKET_COUNT // 8, "little"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Words:
    """A compiled expression in words, and as data that needs no plan to be read."""

    def __init__(self, compiler: TargetingCompiler, segments: list[str]) -> None:
        self._compiler = compiler
        self._segments = segments

    def say(self, expression: Json, *, is_inner: bool = False) -> str:
        if isinstance(expression, bool):
            return "everybody" if expression else "nobody"
        if isinstance(expression, int):
            return self._criterion(self._compiler.criteria.items[expression])
        sign, *operands = expression
        if sign == "!":
            return f"not {self.say(operands[0], is_inner=True)}"
        if not operands:
            return "everybody" if sign == "&" else "nobody"
        if len(operands) == 1:
            return self.say(operands[0], is_inner=is_inner)
        text = _WORDS[sign].join(self.say(operand, is_inner=True) for operand in operands)
        return f"({text})" if is_inner else text

    def spell(self, expression: Json) -> Json:
        if isinstance(expression, list):
            return [expression[0], *(self.spell(operand) for operand in expression[1:])]
        if isinstance(expression, bool):
            return expression
        criterion = self._compiler.criteria.items[expression]
        if "segment" in criterion:
            return {"segment": self._segments[criterion["segment"]]}
        return criterion | ({"attribute": self._attribute(criterion)} if "attribute" in criterion else {})

    def _attribute(self, criterion: Mapping[str, Any]) -> str:
        return ".".join(self._compiler.attributes.items[criterion["attribute"]])

    def _criterion(self, criterion: Mapping[str, Any]) -> str:
        if "segment" in criterion:
            return f"in segment {short(self._segments[criterion['segment']])}"
        if "materialized" in criterion:
            return f"in materialized segment {criterion['materialized']}"
        operator = operator_of(criterion)
        return test_in_words(self._attribute(criterion), criterion.get("over", ""), operator, criterion.get(operator))
