"""What a message of the state holds beyond the schema that this version reads.

Confidence's messages grow: by what is for people and its own services, and by what decides something. The first kind is
listed here as far as it is known; everything else is new, and may be of the second kind.
Source: resolver state; the numbers are those of the published schema and of states as they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from flagedge.wire import state_pb2, types_pb2

UNREAD_FIELDS = {
    state_pb2.ResolverState.DESCRIPTOR.full_name: frozenset({8}),  # region
    # Times, labels, usage, description, identities; 18 is a name for people.
    state_pb2.Flag.DESCRIPTOR.full_name: frozenset({6, 7, 10, 11, 13, 14, 15, 16, 18}),
    state_pb2.Flag.Variant.DESCRIPTOR.full_name: frozenset({3, 4, 5, 8, 9, 10}),
    state_pb2.Flag.Rule.DESCRIPTOR.full_name: frozenset({4, 6, 7, 10, 14, 15}),
    # Allocation, state and bits (what counts of them comes as a bitset); then as above, and what made the segment.
    state_pb2.Segment.DESCRIPTOR.full_name: frozenset({3, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17}),
    state_pb2.Client.DESCRIPTOR.full_name: frozenset({2, 3, 4, 5, 6, 9, 10, 11}),
    state_pb2.ClientCredential.DESCRIPTOR.full_name: frozenset({2, 4, 5, 6, 7, 10, 11}),
}
"""By message, the fields that no resolver reads."""
_SEGMENT_ALLOCATION = 3
# There are many of these, so they are first asked as a whole, in a tenth of the time. Protobuf does that to a depth of
# 64 messages, which expressions and values may exceed.
_SHALLOW = frozenset(
    kind.DESCRIPTOR.full_name
    for kind in (state_pb2.Flag.AssignmentSpec, state_pb2.Flag.MaterializationSpec, types_pb2.FlagSchema)
)


def new_fields(message: Message) -> Iterator[str]:
    """`Rule field 21` for each field of the message itself that is not known; also for one of another wire type."""
    unread = UNREAD_FIELDS.get(message.DESCRIPTOR.full_name, frozenset())
    for number in _skipped_fields(message):
        if number not in unread:
            yield f"{message.DESCRIPTOR.name} field {number}"


def all_new_fields(message: Message) -> Iterator[str]:
    """Those of the message and of all below it; Google's own messages are not entered."""
    yield from new_fields(message)
    for field, value in message.ListFields():
        kind = field.message_type
        if kind is None or kind.file.package == "google.protobuf":
            continue
        if kind.GetOptions().map_entry:
            parts = list(value.values())
        elif field.is_repeated:
            parts = value
        else:
            parts = [value]
        for part in parts:
            if kind.full_name not in _SHALLOW or _has_skipped_fields(part):
                yield from all_new_fields(part)


def _has_skipped_fields(message: Message) -> bool:
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return known.ByteSize() != message.ByteSize()


def allocated_share(segment: state_pb2.Segment) -> float:
    """The share of all units that a segment was given, 1 where it does not say (`allocation.proportion.value`).

    No resolver reads it; it tells that a bitset is missing.
    """
    try:
        allocation = Empty.FromString(_skipped_fields(segment).get(_SEGMENT_ALLOCATION, b""))
        proportion = Empty.FromString(_skipped_fields(allocation).get(1, b""))
        return float(_skipped_fields(proportion).get(1, b"1"))
    except (ProtobufDecodeError, TypeError, ValueError):
        return 1.0


def _skipped_fields(message: Message) -> dict[int, Any]:
    """What the decoder did not know of the message itself, by field number."""
    fields = UnknownFieldSet(message)
    return {fields[index].field_number: fields[index].data for index in range(len(fields))}
