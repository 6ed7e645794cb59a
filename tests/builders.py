"""Resolver states for tests, built from keyword defaults: `payload(state(flag("a", rule(selector="visitor_id"))))`.

Source of the shapes: `proto/flagedge/wire/state.proto`. Names are short: "a" stands for "flags/a", "s" for
"segments/s", a rule "r" of it for "flags/a/rules/r", a variant "on" for "flags/a/variants/on". A name with a slash
is taken as it is.
Every builder returns a protobuf message: what the arguments cannot express is set on the message afterwards.

What segments are made of (criteria, values, expressions, bitsets, bloom filters) lives in `segments.py` and is passed
on from here, so that a test imports from one place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.struct_pb2 import NullValue, Struct, Value
from segments import (
    BITSET_LENGTH,
    UNSET,
    all_of,
    and_,
    any_of,
    bitset,
    bloom_filter,
    boolean,
    contains,
    ends_with,
    eq,
    full_name,
    in_materialized,
    in_range,
    in_segment,
    kindless,
    list_of,
    no_rule,
    not_,
    number,
    one_of,
    or_,
    packed_bits,
    ref,
    segment,
    starts_with,
    text,
    timestamp,
    version,
)

from flagedge.wire.state_pb2 import Client, ClientCredential, ClientResolverState, Flag, ResolverState
from flagedge.wire.types_pb2 import (
    BoolFlagSchema,
    DoubleFlagSchema,
    FlagSchema,
    IntFlagSchema,
    ListFlagSchema,
    StringFlagSchema,
    StructFlagSchema,
)
from sync_job.compile import compile_plan
from sync_job.compiled import Plan
from sync_job.decode import decode_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flagedge.wire.state_pb2 import BloomFilter, PackedBitset, Segment

__all__ = [
    "ACCOUNT",
    "BITSET_LENGTH",
    "SECRET",
    "UNSET",
    "all_of",
    "and_",
    "any_of",
    "assignment",
    "bitset",
    "bloom_filter",
    "boolean",
    "client",
    "client_default",
    "contains",
    "credential",
    "encrypt_payload",
    "ends_with",
    "eq",
    "fallthrough",
    "field_schema",
    "flag",
    "full_name",
    "in_materialized",
    "in_range",
    "in_segment",
    "kindless",
    "list_of",
    "materialization",
    "no_rule",
    "not_",
    "number",
    "one_of",
    "or_",
    "packed_bits",
    "payload",
    "proto_value",
    "ref",
    "request",
    "rule",
    "schema",
    "segment",
    "split",
    "starts_with",
    "state",
    "struct",
    "text",
    "timestamp",
    "unset_assignment",
    "variant",
    "version",
]

ACCOUNT = "test-account"
SECRET = "test-secret"


# --- JSON-like data -------------------------------------------------------------------------------------------------


def proto_value(data: Any, *, kindless_null: bool = False) -> Value:
    """`data` as a protobuf Value; None is a NullValue, with `kindless_null` a Value without a kind (as over HTTP)."""
    match data:
        case None:
            return Value() if kindless_null else Value(null_value=NullValue.NULL_VALUE)
        case bool():
            return Value(bool_value=data)
        case int() | float():
            return Value(number_value=data)
        case str():
            return Value(string_value=data)
        case Mapping():
            return Value(struct_value=struct(data, kindless_null=kindless_null))
        case Sequence():
            result = Value()
            result.list_value.values.extend(proto_value(item, kindless_null=kindless_null) for item in data)
            return result
        case _:
            raise TypeError(f"not JSON-like data: {data!r}")


def struct(data: Mapping[str, Any], *, kindless_null: bool = False) -> Struct:
    """`data` as a protobuf Struct."""
    return Struct(fields={key: proto_value(item, kindless_null=kindless_null) for key, item in data.items()})


def schema(fields: Mapping[str, Any]) -> StructFlagSchema:
    """A schema in short form: `{"size": int, "price": float, "name": str, "on": bool, "sub": {}, "ids": [str]}`."""
    return StructFlagSchema(schema={key: field_schema(kind) for key, kind in fields.items()})


def field_schema(kind: Any) -> FlagSchema:
    """One field of `schema`; None is a field without a type."""
    match kind:
        case None:
            return FlagSchema()
        case Mapping():
            return FlagSchema(struct_schema=schema(kind))
        case [element]:
            return FlagSchema(list_schema=ListFlagSchema(element_schema=field_schema(element)))
    return FlagSchema(**_SCALAR_SCHEMAS[kind])


_SCALAR_SCHEMAS: dict[Any, dict[str, Any]] = {
    bool: {"bool_schema": BoolFlagSchema()},
    int: {"int_schema": IntFlagSchema()},
    float: {"double_schema": DoubleFlagSchema()},
    str: {"string_schema": StringFlagSchema()},
}


# --- flags ----------------------------------------------------------------------------------------------------------


def variant(name: str = "on", value: Mapping[str, Any] | None = UNSET) -> Flag.Variant:
    """A variant; its value is `{"name": <name>}` unless given, and absent for None."""
    value = {"name": name} if value is UNSET else value
    return Flag.Variant(name=name, value=None if value is None else struct(value))


def _assignment(assignment_id: str, ranges: Iterable[tuple[int, int]], **kind: Any) -> Flag.Assignment:
    spans = [Flag.BucketRange(lower=lower, upper=upper) for lower, upper in ranges or [(0, 100)]]
    return Flag.Assignment(assignment_id=assignment_id, bucket_ranges=spans, **kind)


def assignment(
    variant: str = "on",
    *ranges: tuple[int, int],
    assignment_id: str | None = None,
) -> Flag.Assignment:
    """An assignment of `variant` to the half-open bucket ranges; without any it takes 0..100."""
    chosen = variant if assignment_id is None else assignment_id
    return _assignment(chosen, ranges, variant=Flag.Assignment.VariantAssignment(variant=variant))


def fallthrough(*ranges: tuple[int, int], assignment_id: str = "fallthrough") -> Flag.Assignment:
    """An assignment that passes its units on to the next rule."""
    return _assignment(assignment_id, ranges, fallthrough=Flag.Assignment.FallthroughAssignment())


def client_default(*ranges: tuple[int, int], assignment_id: str = "client-default") -> Flag.Assignment:
    """An assignment that leaves its units with the default of the calling code."""
    return _assignment(assignment_id, ranges, client_default=Flag.Assignment.ClientDefaultAssignment())


def unset_assignment(*ranges: tuple[int, int], assignment_id: str = "unset") -> Flag.Assignment:
    """An assignment without a kind."""
    return _assignment(assignment_id, ranges)


def split(**shares: int) -> list[Flag.Assignment]:
    """Adjoining assignments: `split(on=30, off=70)`; the rule's bucket count is their sum."""
    result, lower = [], 0
    for variant_name, share in shares.items():
        result.append(assignment(variant_name, (lower, lower + share)))
        lower += share
    return result


def rule(
    name: str = "r",
    *,
    segment: str = "everybody",
    assignments: Sequence[Flag.Assignment] | None = (),
    bucket_count: int = 100,
    selector: str = "",
    enabled: bool = True,
    environments: Sequence[str] = (),
    materialization: Flag.MaterializationSpec | None = None,
) -> Flag.Rule:
    """A rule: enabled, everybody on variant "on"; `assignments=None` leaves the assignment spec out."""
    spec = None
    if assignments is not None:
        spec = Flag.AssignmentSpec(bucket_count=bucket_count, assignments=assignments or [assignment()])
    return Flag.Rule(
        name=name,
        segment=full_name("segments", segment),
        targeting_key_selector=selector,
        enabled=enabled,
        assignment_spec=spec,
        materialization_spec=materialization,
        environments=environments,
    )


def materialization(
    write: str = "", read: str = "", *, must_match: bool | None = None, ignore_targeting: bool | None = None
) -> Flag.MaterializationSpec:
    """What a sticky rule reads and writes; the mode is absent unless one of its two switches is given."""
    mode = None
    if must_match is not None or ignore_targeting is not None:
        mode = Flag.MaterializationSpec.ReadMode(
            materialization_must_match=must_match, segment_targeting_can_be_ignored=ignore_targeting
        )
    return Flag.MaterializationSpec(write_materialization=write, read_materialization=read, mode=mode)


def flag(
    name: str = "a",
    *rules: Flag.Rule,
    variants: Sequence[Flag.Variant] | None = None,
    schema: StructFlagSchema | None = None,
    state: Flag.State | str = "ACTIVE",
    clients: Sequence[str] = ("c",),
) -> Flag:
    """A flag; without rules it gets the default one, without variants "on" and "off".

    Short names of its rules and variants, and of the variants its assignments name, become full ones.
    """
    full = full_name("flags", name)
    result = Flag(
        name=full,
        schema=schema,
        variants=variants if variants is not None else [variant("on"), variant("off")],
        state=state,
        rules=rules or [rule()],
        clients=[full_name("clients", client_name) for client_name in clients],
    )
    for one in result.variants:
        one.name = full_name(f"{full}/variants", one.name)
    for one_rule in result.rules:
        one_rule.name = full_name(f"{full}/rules", one_rule.name)
        for one_assignment in one_rule.assignment_spec.assignments if one_rule.HasField("assignment_spec") else ():
            if one_assignment.HasField("variant"):
                one_assignment.variant.variant = full_name(f"{full}/variants", one_assignment.variant.variant)
    return result


# --- clients, state, payload ----------------------------------------------------------------------------------------


def client(name: str = "c", *, managed: Mapping[str, Any] | None = None) -> Client:
    """A client; `managed` is laid over the context of its requests."""
    values = {key: proto_value(item) for key, item in (managed or {}).items()}
    return Client(name=full_name("clients", name), managed_context=values)


def credential(
    name: str = "k", *, client: str = "c", secret: str = SECRET, environments: Sequence[str] = ()
) -> ClientCredential:
    """A credential of `client` with a client secret."""
    return ClientCredential(
        name=full_name(f"{full_name('clients', client)}/clientCredentials", name),
        client_secret=ClientCredential.ClientSecret(secret=secret),
        environments=environments,
    )


def state(
    *flags: Flag,
    segments: Sequence[Segment] = (),
    bitsets: Sequence[PackedBitset] = (),
    clients: Sequence[Client] | None = None,
    credentials: Sequence[ClientCredential] | None = None,
    bloom_filters: Sequence[BloomFilter] = (),
) -> ResolverState:
    """A state; one client "c" with the secret `SECRET` unless given; "everybody" is there if a rule names it."""
    everybody = segment("everybody")
    named = {one_rule.segment for one_flag in flags for one_rule in one_flag.rules}
    if everybody.name in named and all(one.name != everybody.name for one in segments):
        segments = [everybody, *segments]
    return ResolverState(
        flags=flags,
        segments_no_bitsets=segments,
        bitsets=bitsets,
        clients=[client()] if clients is None else clients,
        client_credentials=[credential()] if credentials is None else credentials,
        bloom_filters=bloom_filters,
    )


def payload(state: ResolverState, account: str = ACCOUNT, destinations: Sequence[int] = ()) -> bytes:
    """The state as the CDN serves it: an encoded ClientResolverState; equal states give equal bytes."""
    message = ClientResolverState(
        state=state.SerializeToString(deterministic=True), account=account, log_destinations=destinations
    )
    return message.SerializeToString(deterministic=True)


def compiled_plan(state: ResolverState, *, etag: str = '"e"') -> Plan:
    """The state's plan, by the way that a state from the CDN takes."""
    return compile_plan(decode_state(payload(state)), etag=etag)


def encrypt_payload(payload: bytes, key_hex: str, *, nonce: bytes | None = None) -> bytes:
    """The payload as the CDN serves it under `.enc`: nonce, ciphertext, tag (AES-256-GCM)."""
    nonce = os.urandom(12) if nonce is None else nonce
    return nonce + AESGCM(bytes.fromhex(key_hex)).encrypt(nonce, payload, None)


def request(
    context: Mapping[str, Any] | None = None, *flags: str, secret: str = SECRET, apply: bool = False
) -> dict[str, Any]:
    """The JSON body of a resolve request."""
    return {
        "flags": [full_name("flags", name) for name in flags],
        "evaluationContext": dict(context or {}),
        "clientSecret": secret,
        "apply": apply,
    }
