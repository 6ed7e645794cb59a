"""Bitsets of segments: strict gunzip, and the smallest form in which the Worker can look a bit up.

Bit i of a bitset is byte i >> 3, mask 1 << (i & 7). Units fall into 1,000,000 buckets, so bits beyond that
decide nothing, but for one question: whether *all* bits are set, which is what a rule without a unit asks.
Source: resolver state, `PackedBitset`.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from flagedge.errors import DecodeError

BUCKET_COUNT = 1_000_000
_BYTES_MAX = 16 * 1024 * 1024
_GZIP_HEADER = re.compile(rb"\x1f\x8b\x08\x00.{6}", re.DOTALL)
_NONZERO_BYTE = re.compile(rb"[^\x00]")


def gunzip_strictly(data: bytes, *, segment: str) -> bytes:
    """Inflate one gzip member without optional header fields; CRC and size are verified.

    Raises DecodeError, naming the segment, for anything else: the official resolver refuses such a state too.
    """
    problem = f"bitset of {segment} is not a plain gzip member"
    if not _GZIP_HEADER.match(data):
        raise DecodeError(problem)
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        bits = inflater.decompress(data[10:], _BYTES_MAX)
    except zlib.error as error:
        raise DecodeError(problem) from error
    if inflater.unconsumed_tail:
        raise DecodeError(f"bitset of {segment} is larger than {_BYTES_MAX} bytes")
    if not inflater.eof or len(inflater.unused_data) != 8:
        raise DecodeError(problem)
    crc, size = struct.unpack("<II", inflater.unused_data)
    if crc != zlib.crc32(bits) or size != len(bits) & 0xFFFFFFFF:
        raise DecodeError(f"bitset of {segment} fails its checksum")
    return bits


@dataclass(frozen=True, slots=True)
class StoredBits:
    """How a bitset is stored: `kind` is none, full, dense, ranges or positions; `data` its bytes.

    ranges: ascending u32 boundaries, a bucket is in when an odd number of them is ≤ it.
    positions: ascending u32 buckets. dense: the bits themselves. All little-endian.
    """

    kind: str
    data: bytes
    all_set: bool


def store_bits(bits: bytes) -> StoredBits:
    """Choose the smallest form; pure."""
    number = int.from_bytes(bits, "little")
    set_count = number.bit_count()
    all_set = set_count == len(bits) * 8
    kept = min(len(bits) * 8, BUCKET_COUNT)
    number &= (1 << kept) - 1
    set_count = number.bit_count()
    if set_count == 0:
        return StoredBits("none", b"", all_set)
    if set_count == BUCKET_COUNT:
        return StoredBits("full", b"", all_set)
    edges = number ^ (number << 1)
    edge_count = edges.bit_count()
    smallest = min(edge_count, set_count)
    if 4 * smallest >= kept // 8:
        return StoredBits("dense", number.to_bytes((number.bit_length() + 7) // 8, "little"), all_set)
    if set_count < edge_count:
        return StoredBits("positions", _pack_positions(number), all_set)
    return StoredBits("ranges", _pack_positions(edges), all_set)


def _pack_positions(number: int) -> bytes:
    data = number.to_bytes((number.bit_length() + 7) // 8, "little")
    positions = [
        (match.start() << 3) + bit
        for match in _NONZERO_BYTE.finditer(data)
        for bit in range(8)
        if match[0][0] >> bit & 1
    ]
    return struct.pack(f"<{len(positions)}I", *positions)


class BitsetModule:
    """The data module of a plan: blobs laid end to end, 4-byte aligned, equal ones once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._offsets: dict[bytes, int] = {}
        self._length = 0

    def add(self, blob: bytes) -> int:
        """The offset at which `blob` lies."""
        offset = self._offsets.get(blob)
        if offset is None:
            offset = self._offsets[blob] = self._length
            padding = -len(blob) % 4
            self._parts += (blob, b"\0" * padding)
            self._length += len(blob) + padding
        return offset

    def to_bytes(self) -> bytes:
        return b"".join(self._parts)
