"""`sync-job types`: TypeScript types of a state's flags, so that a misspelt key or a wrong type does not compile.

Keys are those of the `Flags` binding: a flag's name without `flags/`, and `flag.field` for each field of its value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from flagedge.wire import state_pb2, types_pb2
from sync_job.allocations import served_flags
from sync_job.decode import DecodedState

_HEADER = """\
// The flags of account {account}, state {etag}. Written by `sync-job types`: run it again when flags change.

/** A visitor: `targetingKey` is the targeting key, dotted keys become structs. */
export type FlagContext = Record<string, unknown>;

/** By key: a flag's value, and each of its fields. Where a variant has null, calls give the default. */
export interface FlagTypes {{
"""
_BINDING = """\
}}

type KeysOf<Type> = {{ [Key in keyof FlagTypes]: FlagTypes[Key] extends Type ? Key : never }}[keyof FlagTypes];

/** What came of an evaluation; with an `errorCode`, `value` is the caller's default. */
export interface FlagDetails<Value> {{
  flagKey: string;
  value: Value;
  variant?: string;
  reason?: string;
  errorCode?: string;
  errorMessage?: string;
}}

/** A flag as the Confidence API has it: `flag` is its name with `flags/`. */
export interface ResolvedFlag {{
  flag: string;
  reason: string;
  variant?: string;
  value?: Record<string, unknown>;
  shouldApply?: boolean;
}}

/** A service binding to the flags Worker with `entrypoint: "Flags"`. */
export interface FlagsBinding {{
{methods}
  getValue<Key extends keyof FlagTypes>(
    key: Key,
    fallback: FlagTypes[Key],
    context?: FlagContext,
  ): Promise<FlagTypes[Key]>;
  getDetails<Key extends keyof FlagTypes>(
    key: Key,
    fallback: FlagTypes[Key],
    context?: FlagContext,
  ): Promise<FlagDetails<FlagTypes[Key]>>;
  /** The Confidence API: bodies and answers of `flags:resolve` and `flags:apply`. What is refused is thrown. */
  resolve(request: object): Promise<{{ resolvedFlags: ResolvedFlag[]; resolveToken: string; resolveId: string }}>;
  apply(request: object): Promise<unknown>;
  fetch(request: Request): Promise<Response>;
}}
"""
_METHOD = """\
  get{name}{what}<Key extends KeysOf<{type}>>(
    key: Key,
    fallback: {value},
    context?: FlagContext,
  ): Promise<{result}>;"""
_SCALARS = {
    "int_schema": "number",
    "double_schema": "number",
    "string_schema": "string",
    "bool_schema": "boolean",
}


def write_types(decoded: DecodedState, *, etag: str) -> str:
    """The text of a `.d.ts` file; the same for the same state."""
    flags = {flag.name: flag for flag in served_flags(decoded.resolver_state)}
    lines = [line for name in sorted(flags) for line in _flag_lines(flags[name])]
    header = _HEADER.format(account=decoded.account, etag=etag)
    return header + "".join(lines) + _BINDING.format(methods="\n".join(_methods()))


def _flag_lines(flag: state_pb2.Flag) -> Iterator[str]:
    key = flag.name.removeprefix("flags/")
    yield f"  {json.dumps(key)}: {_struct_type(flag.schema)};\n"
    for path, schema in _fields(flag.schema):
        yield f"  {json.dumps(f'{key}.{path}')}: {_type(schema)};\n"


def _fields(struct: types_pb2.StructFlagSchema, prefix: str = "") -> Iterator[tuple[str, types_pb2.FlagSchema]]:
    for name in sorted(struct.schema):
        schema = struct.schema[name]
        yield prefix + name, schema
        if schema.WhichOneof("schema_type") == "struct_schema":
            yield from _fields(schema.struct_schema, f"{prefix}{name}.")


def _type(schema: types_pb2.FlagSchema) -> str:
    kind = schema.WhichOneof("schema_type")
    if kind == "struct_schema":
        return _struct_type(schema.struct_schema)
    if kind == "list_schema":
        return f"Array<{_type(schema.list_schema.element_schema)}>"
    return _SCALARS.get(kind or "", "unknown")


def _struct_type(struct: types_pb2.StructFlagSchema) -> str:
    fields = "; ".join(f"{json.dumps(name)}: {_type(struct.schema[name])} | null" for name in sorted(struct.schema))
    return f"{{ {fields} }}" if fields else "Record<string, never>"


def _methods() -> Iterator[str]:
    for name in ("boolean", "string", "number", "object"):
        value = "FlagTypes[Key]" if name == "object" else name
        for what, result in (("Value", value), ("Details", f"FlagDetails<{value}>")):
            yield _METHOD.format(name=name.capitalize(), what=what, type=name, value=value, result=result)
