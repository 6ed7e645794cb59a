"""The official resolver, for the gate: the wasm inside the PyPI package of extra `[gate]`, holding one state."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value

from flagedge.wire import api_pb2, types_pb2
from sync_job.decode import DecodedState

_ERRED = {"reason": "RESOLVE_REASON_ERROR"}


def is_installed() -> bool:
    """Whether the extra `[gate]` is there."""
    return importlib.util.find_spec("confidence") is not None


class OfficialResolver:
    """Resolves as the newest official release does."""

    def __init__(self, decoded: DecodedState) -> None:
        import confidence  # noqa: PLC0415 (an extra)
        from confidence.proto.confidence.wasm import wasm_api_pb2  # noqa: PLC0415
        from confidence.wasm_resolver import WasmResolver  # noqa: PLC0415

        self._request = wasm_api_pb2.ResolveProcessRequest
        wasm = (Path(confidence.__file__).parent / "wasm/confidence_resolver.wasm").read_bytes()
        self._guest: Any = WasmResolver(wasm)
        state = decoded.resolver_state.SerializeToString()
        self._guest.set_resolver_state(state, decoded.account, enable_apply_dedup=False)
        self._flags = [flag.name for flag in decoded.resolver_state.flags]

    def resolve(self, secret: str, context: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What each flag that the secret sees is decided to be, by name, as `flags_of_answer` has it.

        One flag that errs fails a whole request there: then each is asked for by itself, and errs alone.
        """
        together = self._resolve(secret, context, ())
        if together is not None:
            return together
        decided: dict[str, dict[str, Any]] = {}
        for flag in self._flags:
            alone = self._resolve(secret, context, (flag,))
            decided |= {flag: _ERRED} if alone is None else alone
        return decided

    def _resolve(
        self, secret: str, context: Mapping[str, Any], flags: Sequence[str]
    ) -> dict[str, dict[str, Any]] | None:
        message = api_pb2.ResolveFlagsRequest(client_secret=secret, apply=True, flags=flags)
        message.evaluation_context.CopyFrom(_struct(context))
        request = self._request()
        request.without_materializations.ParseFromString(message.SerializeToString())
        try:
            response = self._guest.resolve_process(request)
        except RuntimeError:
            return None
        # The package's own messages leave out what ours read; their bytes keep it.
        answer = api_pb2.ResolveFlagsResponse.FromString(response.resolved.response.SerializeToString())
        return {flag.flag: _decided(flag) for flag in answer.resolved_flags}


def flags_of_answer(answer: Any) -> dict[str, dict[str, Any]]:
    """What each flag of a JSON answer was decided to be, by name, without what only describes it.

    Raises KeyError or TypeError for what is no answer.
    """
    keys = ("variant", "value", "reason", "shouldApply", "assignmentOrigin")
    return {flag["flag"]: {key: flag[key] for key in keys if key in flag} for flag in answer["resolvedFlags"]}


def _decided(flag: api_pb2.ResolvedFlag) -> dict[str, Any]:
    decided: dict[str, Any] = {"reason": types_pb2.ResolveReason.Name(flag.reason)}
    if flag.variant:
        decided["variant"] = flag.variant
    if flag.HasField("value"):
        decided["value"] = {key: _json(item) for key, item in flag.value.fields.items()}
    if flag.should_apply:
        decided["shouldApply"] = True
    if flag.assignment_origin:
        decided["assignmentOrigin"] = flag.assignment_origin
    return decided


def _json(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _json(item) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_json(item) for item in value.list_value.values]
    return None if kind in {None, "null_value"} else getattr(value, kind)


def _struct(data: Mapping[str, Any]) -> Struct:
    return Struct(fields={key: _value(item) for key, item in data.items()})


def _value(data: Any) -> Value:
    match data:
        case bool():
            return Value(bool_value=data)
        case int() | float():
            return Value(number_value=data)
        case str():
            return Value(string_value=data)
        case list():
            value = Value()
            value.list_value.values.extend(_value(item) for item in data)
            return value
        case Mapping():
            return Value(struct_value=_struct(data))
        case _:
            return Value()  # JSON null has no kind
