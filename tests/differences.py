"""What comparisons with the official resolver share: the count of what was compared, made-up records, its quirks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oracle import Materialization, Oracle, OracleError, Suspended

from flagedge.wire import state_pb2


@dataclass(slots=True)
class Tally:
    """What a run compared: requests, flags by reason, requests that the official resolver refused."""

    requests: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def flags(self) -> int:
        return self.reasons.total()


class DifferenceError(AssertionError):
    """The two resolvers disagree; the message holds the request and both answers."""


def wishes_of(oracle: Oracle, request: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """What the official resolver would read, flag by flag, as an internal error of one hides the others' wishes."""
    wishes: list[Any] = []
    for name in names:
        try:
            answer = oracle.resolve(dict(request) | {"flags": [name]}, mode="discovery")
        except OracleError as error:
            if "client secret" in str(error):
                raise
            continue
        wishes += answer.reads if isinstance(answer, Suspended) else []
    return sorted(set(wishes))


def make_records(wishes: Sequence[Materialization], variants: Sequence[str], draw: random.Random) -> list[Any]:
    """Records for most of what is wished for; an inclusion is one of any rule."""
    return [
        (unit, name, rule or "some-rule", draw.choice(variants))
        for unit, name, rule, _ in wishes
        if draw.random() < 0.7
    ]


def without_empty_writes(payload: bytes) -> bytes:
    """The state as it means the same to both: a sticky rule that neither reads nor names what it writes is plain.

    Upstream writes a record with an empty name for it; we write nothing (docs/parity.md).
    """
    envelope = state_pb2.ClientResolverState.FromString(payload)
    resolver_state = state_pb2.ResolverState.FromString(envelope.state)
    for flag in resolver_state.flags:
        for rule in flag.rules:
            spec = rule.materialization_spec
            if not spec.read_materialization and not spec.write_materialization:
                rule.ClearField("materialization_spec")
    envelope.state = resolver_state.SerializeToString()
    return envelope.SerializeToString()


def flags_of(resolved: Any) -> dict[str, Any]:
    if isinstance(resolved, Suspended):
        raise DifferenceError("the official resolver suspended although materializations are not supported")
    flags: dict[str, Any] = resolved.flags
    return flags
