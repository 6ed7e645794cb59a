"""What differs in the values of a flag: its variants, its schema; and fields of any Struct, in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import struct_pb2

from flagedge.wire import state_pb2
from sync_job.change import Change
from sync_job.fragments import schema_json
from sync_job.words import listed, short, shown_json

Json = Any


def diff_variants(old: state_pb2.Flag, new: state_pb2.Flag) -> Iterator[Change]:
    """What became of the variants and their values."""
    # The first of two with one name counts.
    olds, news = (
        {each.name: plain_fields(each.value.fields) for each in reversed(flag.variants)} for flag in (old, new)
    )
    for name in [each.name for each in new.variants]:
        if name not in olds:
            text = f"variant {short(name)} added: {shown_json(news[name])}"
            yield Change(new.name, "", "variant", "added", None, {"name": name, "value": news[name]}, text)
        elif olds[name] != news[name]:
            was, now = olds[name], news[name]
            text = f"variant {short(name)}: {fields_in_words(was, now)}"
            before, after = ({"name": name, "value": value} for value in (was, now))
            yield Change(new.name, "", "variant", "changed", before, after, text)
    for name in [each.name for each in old.variants if each.name not in news]:
        text = f"variant {short(name)} removed"
        yield Change(new.name, "", "variant", "removed", {"name": name, "value": olds[name]}, None, text)


def schema(flag: state_pb2.Flag) -> Json:
    """A flag's schema as plain data, None where it has none."""
    return json.loads(schema_json(flag.schema)).get("schema", {}) if flag.HasField("schema") else None


def fields_in_words(old: Mapping[str, Json], new: Mapping[str, Json]) -> str:
    """Which fields were changed, added and removed."""
    parts = [
        f"{key} {shown_json(old[key])} → {shown_json(new[key])}" for key in new if key in old and old[key] != new[key]
    ]
    parts += [f"{key} added ({shown_json(new[key])})" for key in new if key not in old]
    parts += [f"{key} removed" for key in old if key not in new]
    return listed(parts) or "empty as before"


def plain_fields(fields: Mapping[str, struct_pb2.Value]) -> dict[str, Json]:
    """Struct fields as plain data, by name in order; a number that JSON cannot say is text."""
    return {key: _plain(fields[key]) for key in sorted(fields)}


def _plain(value: struct_pb2.Value) -> Json:
    match value.WhichOneof("kind"):
        case "struct_value":
            return plain_fields(value.struct_value.fields)
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                return str(number)
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case None | "null_value":
            return None
        case kind:
            return getattr(value, kind)
