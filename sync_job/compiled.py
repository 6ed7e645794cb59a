"""A compiled state, as `compile` gives it and `assemble` takes it; apart, for looking at it needs no protobuf."""

from __future__ import annotations

from dataclasses import dataclass

PLAN_FORMAT = 1
"""Grows when a Worker of old could not read a plan any more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled state: `text` is the JSON module, `bits` the data module."""

    text: str
    bits: bytes
    etag: str
    account: str
    flag_count: int
