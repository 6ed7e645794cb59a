"""MurmurHash3 x64 128 bit with seed 0, and the two buckets Confidence derives from it, in plain Python.

Source: Austin Appleby's public domain `MurmurHash3_x64_128`. Written for the tests alone, so that what they expect does
not come from the code under test.
"""

from __future__ import annotations

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_C1 = 0x87C3_7B91_1142_53D5
_C2 = 0x4CF5_AD43_2745_937F


def _rotl(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK


def _scramble_1(word: int) -> int:
    return _rotl(word * _C1 & _MASK, 31) * _C2 & _MASK


def _scramble_2(word: int) -> int:
    return _rotl(word * _C2 & _MASK, 33) * _C1 & _MASK


def _finish(word: int) -> int:
    word = (word ^ (word >> 33)) * 0xFF51_AFD7_ED55_8CCD & _MASK
    word = (word ^ (word >> 33)) * 0xC4CE_B9FE_1A85_EC53 & _MASK
    return word ^ (word >> 33)


def murmur3_x64_128(key: bytes) -> tuple[int, int]:
    """Both 64-bit words of the hash, unsigned: (low, high)."""
    h1 = h2 = 0
    whole = len(key) & ~15
    for at in range(0, whole, 16):
        h1 ^= _scramble_1(int.from_bytes(key[at : at + 8], "little"))
        h1 = ((_rotl(h1, 27) + h2) * 5 + 0x52DC_E729) & _MASK
        h2 ^= _scramble_2(int.from_bytes(key[at + 8 : at + 16], "little"))
        h2 = ((_rotl(h2, 31) + h1) * 5 + 0x3849_5AB5) & _MASK
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


def bucket(key: str, count: int) -> int:
    """The bucket of `key` in 0..count-1."""
    return (murmur3_x64_128(key.encode())[0] >> 4) % count


def population_bucket(account: str, unit: str, count: int = 1_000_000) -> int:
    """The bit of a segment's bitset that decides about `unit`."""
    return bucket(f"MegaSalt-{account}|{unit}", count)


def variant_bucket(segment: str, unit: str, count: int) -> int:
    """The bucket that decides which assignment `unit` gets; `segment` may be in short form."""
    return bucket(f"{segment.removeprefix('segments/')}|{unit}", count)
