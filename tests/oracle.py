"""The official resolver as the oracle: the compiled guest of the pinned `confidence-openfeature-provider`.

Source of the calling convention: the provider's own `confidence.wasm_resolver.WasmResolver`, which is used for loading,
memory and envelopes. The provider's messages are trimmed, so the bytes of the calls are put together here from
our own messages: nothing that the guest can read or say gets lost.

The guest is shared by all oracles of a process, since it takes states again and again; its logs are those of the oracle
that used it last. A trap (a panic of the guest) costs a new guest, which is made by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import confidence
import wasmtime
from builders import struct
from confidence.proto.confidence.wasm.messages_pb2 import Request, Response
from confidence.wasm_resolver import WasmResolver

from flagedge.wire.api_pb2 import ApplyFlagsRequest, ResolvedFlag, ResolveFlagsRequest, ResolveFlagsResponse
from flagedge.wire.logs_pb2 import WriteFlagLogsRequest
from flagedge.wire.state_pb2 import ClientResolverState
from flagedge.wire.types_pb2 import FlagSchema, ResolveReason, StructFlagSchema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from google.protobuf.struct_pb2 import Value

Mode = Literal["without", "static", "discovery"]
Materialization = tuple[str, str, str, str]
"""(unit, materialization, rule, variant); a wish has no variant, an inclusion wish no rule."""


class OracleError(Exception):
    """The official resolver answered with an error; the text is its own."""


class OracleTrap(OracleError):  # noqa: N818  (a trap is what it is called)
    """The official resolver trapped; the guest was replaced."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A finished resolve: flags by name in the JSON shape of the HTTP API."""

    flags: dict[str, dict[str, Any]]
    writes: list[Materialization] = field(default_factory=list)
    resolve_token: bytes = b""
    resolve_id: str = ""


@dataclass(frozen=True, slots=True)
class Suspended:
    """A resolve that waits for materializations: its wishes, and what `Oracle.resume` needs."""

    reads: list[Materialization]
    state: bytes


# --- wire -----------------------------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_field(number: int, data: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def decode_fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that has only length-delimited ones, in order."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 != 2:
            raise ValueError(f"field {key >> 3} has wire type {key & 7}")
        length, at = _read_varint(data, at)
        yield key >> 3, data[at : at + length]
        at += length


def _encode_record(record: Materialization) -> bytes:
    return b"".join(encode_field(number, part.encode()) for number, part in enumerate(record, 1) if part)


def _decode_record(data: bytes) -> Materialization:
    parts = {number: part.decode() for number, part in decode_fields(data)}
    return parts.get(1, ""), parts.get(2, ""), parts.get(3, ""), parts.get(4, "")


def _encode_request(request: Mapping[str, Any]) -> bytes:
    message = ResolveFlagsRequest(
        flags=request.get("flags", ()),
        client_secret=request.get("clientSecret", ""),
        apply=request.get("apply", False),
    )
    if request.get("evaluationContext") is not None:
        message.evaluation_context.CopyFrom(struct(request["evaluationContext"], kindless_null=True))
    return message.SerializeToString()


# --- JSON shape -----------------------------------------------------------------------------------------------------


def json_value(value: Value) -> Any:
    """A protobuf Value as JSON data; numbers are floats, a Value without a kind is None."""
    match value.WhichOneof("kind"):
        case None | "null_value":
            return None
        case "struct_value":
            return {key: json_value(item) for key, item in value.struct_value.fields.items()}
        case "list_value":
            return [json_value(item) for item in value.list_value.values]
        case kind:
            return getattr(value, kind)


def json_schema(schema: StructFlagSchema) -> dict[str, Any]:
    """A flag schema as JSON data."""
    if not schema.schema:
        return {}
    return {"schema": {key: _json_field_schema(item) for key, item in schema.schema.items()}}


def _json_field_schema(schema: FlagSchema) -> dict[str, Any]:
    match schema.WhichOneof("schema_type"):
        case None:
            return {}
        case "struct_schema":
            return {"structSchema": json_schema(schema.struct_schema)}
        case "list_schema":
            inner = schema.list_schema
            element = {"elementSchema": _json_field_schema(inner.element_schema)}
            return {"listSchema": element if inner.HasField("element_schema") else {}}
        case kind:
            return {kind.replace("_schema", "Schema"): {}}


def json_flag(flag: ResolvedFlag) -> dict[str, Any]:
    """A resolved flag as the HTTP API prints it: fields at their default are left out."""
    result: dict[str, Any] = {"flag": flag.flag}
    if flag.variant:
        result["variant"] = flag.variant
    if flag.HasField("value"):
        result["value"] = {key: json_value(item) for key, item in flag.value.fields.items()}
    if flag.HasField("flag_schema"):
        result["flagSchema"] = json_schema(flag.flag_schema)
    result["reason"] = ResolveReason.Name(flag.reason)
    if flag.should_apply:
        result["shouldApply"] = True
    if flag.assignment_origin:
        result["assignmentOrigin"] = flag.assignment_origin
    return result


# --- guest ----------------------------------------------------------------------------------------------------------


@cache
def _wasm() -> bytes:
    return (Path(confidence.__file__).parent / "wasm" / "confidence_resolver.wasm").read_bytes()


class _Guest:
    """The process's one instance of the official resolver, and whose state it holds."""

    def __init__(self) -> None:
        self._resolver: WasmResolver | None = None
        self.holder: Oracle | None = None

    def call(self, export: str, data: bytes) -> bytes:
        """Call an export with a message, and return the message it answers with."""
        return self._invoke(lambda guest: self._exchange(guest, export, guest._transfer(_envelope(data))))

    def flush(self, export: str) -> bytes:
        """Call an export that takes nothing but a limit (0: none)."""
        return self._invoke(lambda guest: self._exchange(guest, export, 0))

    def load(self, oracle: Oracle) -> None:
        """Make the guest hold the oracle's state; whatever another oracle logged and did not flush is dropped."""
        if self.holder is oracle:
            return
        if self.holder is not None:
            self.holder = None
            self.flush("bounded_flush_logs")
        self._invoke(
            lambda guest: guest.set_resolver_state(oracle.state, oracle.account, enable_apply_dedup=False),
        )
        self.holder = oracle

    def _invoke(self, use: Any) -> Any:
        if self._resolver is None:
            self._resolver = WasmResolver(_wasm())
        try:
            return use(self._resolver)
        except RuntimeError as exc:  # how the provider reports an error of the guest
            raise OracleError(str(exc).removeprefix("WASM error: ")) from exc
        except (wasmtime.Trap, wasmtime.WasmtimeError) as exc:
            self._resolver = self.holder = None
            raise OracleTrap(_trap_reason(exc)) from exc

    @staticmethod
    def _exchange(guest: WasmResolver, export: str, argument: int) -> bytes:
        function = guest._instance.exports(guest._store)[f"wasm_msg_guest_{export}"]
        answer = Response.FromString(guest._consume(function(guest._store, argument)))
        if answer.HasField("error"):
            raise OracleError(answer.error)
        return answer.data


def _envelope(data: bytes) -> bytes:
    return Request(data=data).SerializeToString()


def _trap_reason(exc: Exception) -> str:
    found = re.search(r"wasm trap: (.*)", str(exc))
    return found[1] if found else str(exc)


_GUEST = _Guest()


class Oracle:
    """The official resolver holding one state (the bytes of a ClientResolverState)."""

    def __init__(self, payload: bytes) -> None:
        message = ClientResolverState.FromString(payload)
        self.state = message.state
        self.account = message.account

    def load(self) -> None:
        """Give the state to the resolver, which every other call does by itself; raises OracleError if refused."""
        _GUEST.load(self)

    def resolve(
        self, request: Mapping[str, Any], *, mode: Mode = "without", records: Iterable[Materialization] = ()
    ) -> Resolved | Suspended:
        """Resolve a request in HTTP JSON shape.

        `without` knows no materializations, `static` has all there are in `records`, `discovery` asks by suspending.
        """
        message = _encode_request(request)
        match mode:
            case "discovery":
                call = encode_field(1, message)
            case "static":
                call = encode_field(2, encode_field(1, message) + _encode_records(2, records))
            case _:
                call = encode_field(3, message)
        return self._process(call)

    def resolve_flags(
        self, request: Mapping[str, Any], *, mode: Mode = "without", records: Iterable[Materialization] = ()
    ) -> dict[str, dict[str, Any]]:
        """As `resolve`, for a request that does not suspend: just the flags by name."""
        result = self.resolve(request, mode=mode, records=records)
        if isinstance(result, Suspended):
            raise OracleError(f"suspended for {result.reads}")
        return result.flags

    def resume(self, suspended: Suspended, records: Iterable[Materialization] = ()) -> Resolved | Suspended:
        """Finish a suspended resolve with the records that were found."""
        return self._process(encode_field(4, _encode_records(1, records) + encode_field(2, suspended.state)))

    def apply_flags(self, request: ApplyFlagsRequest) -> None:
        """Apply with a token of an earlier resolve."""
        _GUEST.load(self)
        _GUEST.call("apply_flags", request.SerializeToString())

    def flush_logs(self) -> WriteFlagLogsRequest:
        """All that was logged since the last flush: resolves, assignments and telemetry."""
        _GUEST.load(self)
        return WriteFlagLogsRequest.FromString(_GUEST.flush("bounded_flush_logs"))

    def _process(self, call: bytes) -> Resolved | Suspended:
        _GUEST.load(self)
        [(kind, body)] = decode_fields(_GUEST.call("resolve_flags", call))
        fields = list(decode_fields(body))
        records = [_decode_record(data) for number, data in fields if number == (2 if kind == 1 else 1)]
        if kind == 2:
            return Suspended(reads=records, state=b"".join(data for number, data in fields if number == 2))
        response = ResolveFlagsResponse.FromString(b"".join(data for number, data in fields if number == 1))
        return Resolved(
            flags={flag.flag: json_flag(flag) for flag in response.resolved_flags},
            writes=records,
            resolve_token=response.resolve_token,
            resolve_id=response.resolve_id,
        )


def _encode_records(number: int, records: Iterable[Materialization]) -> bytes:
    return b"".join(encode_field(number, _encode_record(record)) for record in records)
