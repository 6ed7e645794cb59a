"""JSON text in the official resolver's spelling: variant values and flag schemas, ready to be sent.

Numbers of a Struct are doubles and are printed as such (`5.0`, `1e21`), because typed clients tell `5` from
`5.0`. Text is ASCII (escapes), so that V8 keeps it in one byte a character and joins it without re-encoding.
Source: resolver API, JSON mapping.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from google.protobuf import struct_pb2
from google.protobuf.message import Message

from flagedge.wire import types_pb2

_INFINITE_DOUBLE = re.compile(rb"\x11.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)  # a Value's field 2, all exponent bits set
_SCHEMA_NAMES = {
    "int_schema": "intSchema",
    "double_schema": "doubleSchema",
    "string_schema": "stringSchema",
    "bool_schema": "boolSchema",
}


class NotFiniteError(ValueError):
    """A NaN or an infinity: JSON has no text for it."""


def number_text(number: float) -> str:
    """The shortest digits that give `number` back, always with a fraction or an exponent.

    Positional for 1e-5 ≤ |number| < 1e16, else scientific without `+` and without padding.
    Raises NotFiniteError.
    """
    if not math.isfinite(number):
        raise NotFiniteError
    text = repr(number)
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    power = int(exponent)
    if power == -5:
        sign, digits = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
        return f"{sign}0.0000{digits.replace('.', '')}"
    return f"{mantissa.removesuffix('.0')}e{power}"


def text_json(text: str) -> str:
    return json.dumps(text)


def value_json(value: struct_pb2.Value) -> str:
    """A Struct value as JSON text; null and kind-less values print `null`. Raises NotFiniteError."""
    match value.WhichOneof("kind"):
        case "number_value":
            return number_text(value.number_value)
        case "string_value":
            return text_json(value.string_value)
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "struct_value":
            return struct_json(value.struct_value.fields)
        case "list_value":
            return "[" + ",".join(value_json(item) for item in value.list_value.values) + "]"
        case _:
            return "null"


def struct_json(fields: Mapping[str, struct_pb2.Value]) -> str:
    return "{" + ",".join(f"{text_json(key)}:{value_json(fields[key])}" for key in sorted(fields)) + "}"


def has_infinity(message: Message, fields: Mapping[str, struct_pb2.Value]) -> bool:
    """Whether `fields`, which are of `message`, hold a number that JSON has no text for."""
    if not _INFINITE_DOUBLE.search(message.SerializeToString()):
        return False
    try:
        struct_json(fields)
    except NotFiniteError:
        return True
    return False


def filled_struct_json(fields: Mapping[str, struct_pb2.Value], schema: Mapping[str, types_pb2.FlagSchema]) -> str:
    """Like struct_json, with null for every field of `schema` that is absent; structs are entered, lists are not."""
    parts = []
    for key in sorted(fields.keys() | schema.keys()):
        if key not in fields:
            text = "null"
        elif schema_struct := _struct_schema(fields[key], schema.get(key)):
            text = filled_struct_json(fields[key].struct_value.fields, schema_struct.schema)
        else:
            text = value_json(fields[key])
        parts.append(f"{text_json(key)}:{text}")
    return "{" + ",".join(parts) + "}"


def _struct_schema(value: struct_pb2.Value, schema: types_pb2.FlagSchema | None) -> types_pb2.StructFlagSchema | None:
    if schema is None or value.WhichOneof("kind") != "struct_value" or not schema.HasField("struct_schema"):
        return None
    return schema.struct_schema


def schema_json(schema: types_pb2.StructFlagSchema) -> str:
    if not schema.schema:
        return "{}"
    fields = ",".join(f"{text_json(key)}:{_field_schema_json(schema.schema[key])}" for key in sorted(schema.schema))
    return f'{{"schema":{{{fields}}}}}'


def _field_schema_json(schema: types_pb2.FlagSchema) -> str:
    kind = schema.WhichOneof("schema_type")
    if kind is None:
        return "{}"
    if kind == "struct_schema":
        return f'{{"structSchema":{schema_json(schema.struct_schema)}}}'
    if kind == "list_schema":
        if not schema.list_schema.HasField("element_schema"):
            return '{"listSchema":{}}'
        return f'{{"listSchema":{{"elementSchema":{_field_schema_json(schema.list_schema.element_schema)}}}}}'
    return f'{{"{_SCHEMA_NAMES[kind]}":{{}}}}'
