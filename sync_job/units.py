"""Units, the buckets that they fall into, and the bitsets and bloom filters that hold them.

Source: MurmurHash3 x64 128 bit with seed 0 (Austin Appleby, public domain); Guava's MURMUR128_MITZ_64; docs/plan.md.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

UNIT_MAX_BYTES = 100
POPULATION_BUCKETS = 1_000_000
_MASK = 0xFFFF_FFFF_FFFF_FFFF
_C1 = 0x87C3_7B91_1142_53D5
_C2 = 0x4CF5_AD43_2745_937F


class SeenUnit(NamedTuple):
    """A unit that was given a flag: to whom, and where in its context it was found ("" where it always is)."""

    credential: str
    selector: str
    targeting_key: str


class UnitError(ValueError):
    """A value that cannot be a unit; the message says why."""


def unit_text(value: Any) -> str | None:
    """The text of a unit, None for none. Numbers are floats. Raises UnitError."""
    if value is None:
        return None
    if isinstance(value, float):
        if not value.is_integer():
            raise UnitError("a number with a fraction is no unit")
        value = "-0" if str(value) == "-0.0" else str(int(value))
    if not isinstance(value, str):
        raise UnitError("only text and whole numbers are units")
    if len(value.encode()) > UNIT_MAX_BYTES:
        raise UnitError(f"a unit has at most {UNIT_MAX_BYTES} bytes")
    return value


# Hashing


def bucket(key: str, count: int) -> int:
    """The bucket of `key`, 0 to count - 1."""
    return (murmur3_x64_128(key.encode())[0] >> 4) % count


def murmur3_x64_128(key: bytes) -> tuple[int, int]:
    """Both 64-bit words of the hash, unsigned: (low, high)."""
    h1 = h2 = 0
    whole = len(key) & ~15
    for at in range(0, whole, 16):
        h1 ^= _scramble_1(int.from_bytes(key[at : at + 8], "little"))
        h1 = ((_rotate(h1, 27) + h2) * 5 + 0x52DC_E729) & _MASK
        h2 ^= _scramble_2(int.from_bytes(key[at + 8 : at + 16], "little"))
        h2 = ((_rotate(h2, 31) + h1) * 5 + 0x3849_5AB5) & _MASK
    tail = key[whole:]
    h2 ^= _scramble_2(int.from_bytes(tail[8:], "little"))
    h1 ^= _scramble_1(int.from_bytes(tail[:8], "little"))
    h1 ^= len(key)
    h2 ^= len(key)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    h1, h2 = _finish(h1), _finish(h2)
    h1 = (h1 + h2) & _MASK
    return h1, (h2 + h1) & _MASK


def _rotate(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & _MASK


def _scramble_1(word: int) -> int:
    return _rotate(word * _C1 & _MASK, 31) * _C2 & _MASK


def _scramble_2(word: int) -> int:
    return _rotate(word * _C2 & _MASK, 33) * _C1 & _MASK


def _finish(word: int) -> int:
    word = (word ^ (word >> 33)) * 0xFF51_AFD7_ED55_8CCD & _MASK
    word = (word ^ (word >> 33)) * 0xC4CE_B9FE_1A85_EC53 & _MASK
    return word ^ (word >> 33)


# Bitsets and bloom filters


def is_bit_set(bits: Sequence[Any], data: bytes, position: int) -> bool:
    """Whether bit `position` is set in a plan's bitset, `[kind, offset, bytes, all_set]`."""
    kind, offset, length, _ = bits
    match kind:
        case "dense":
            at = position >> 3
            return at < length and bool(data[offset + at] >> (position & 7) & 1)
        case "ranges":
            return _count_up_to(data, offset, length, position) % 2 == 1
        case "positions":
            count = _count_up_to(data, offset, length, position)
            return count > 0 and _word(data, offset, count - 1) == position
        case _:
            return bool(kind == "full")


def _count_up_to(data: bytes, offset: int, length: int, limit: int) -> int:
    """How many of the ascending words are at most `limit`."""
    return bisect_right(range(length // 4), limit, key=lambda index: _word(data, offset, index))


def _word(data: bytes, offset: int, index: int) -> int:
    word: int = struct.unpack_from("<I", data, offset + 4 * index)[0]
    return word


def is_in_bloom(bloom: Sequence[int], data: bytes, unit: str) -> bool:
    """Whether a plan's bloom filter, `[hashes, bits, offset, bytes]`, holds a unit; seldom says so of one it does not.

    Words of 64 bits are stored big-endian; what is left behind the last whole one keeps its order.
    """
    hash_count, bit_count, offset, length = bloom
    combined, step = murmur3_x64_128(unit.encode())
    for _ in range(hash_count):
        at, bit = divmod((combined & _MASK >> 1) % bit_count, 8)
        if at >= length:
            return False
        stored_at = at ^ 7 if at < length - length % 8 else at
        if not data[offset + stored_at] >> bit & 1:
            return False
        combined = (combined + step) & _MASK
    return True
