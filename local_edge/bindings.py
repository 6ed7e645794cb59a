"""A script's bindings: checked against the account, inherited from earlier versions, shown without secrets.

What a new version does not name, inherit or keep by its type is gone. Source: Workers multipart upload metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_edge.envelope import RefusalError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local_edge.scripts import Scripts, Version

BINDING_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
NAMESPACE_ID = re.compile(r"[0-9a-f]{32}")
# The API has a limit (10100) but does not tell it; this one is ours.
BINDING_NAME_LIMIT = 128
VARIABLE_BYTES_LIMIT = 5 * 1000
VARIABLE_COUNT_LIMIT = 128
VARIABLE_TYPES = frozenset({"plain_text", "secret_text", "json"})
SECRET_TYPES = frozenset({"secret_text", "secret_key"})
INHERIT_FIELDS = frozenset({"type", "name", "old_name", "version_id"})
# What runs here: the fields that must be there, and those that may.
BINDING_FIELDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plain_text": (("text",), ()),
    "secret_text": (("text",), ()),
    "json": (("json",), ()),
    "queue": (("queue_name",), ()),
    "kv_namespace": (("namespace_id",), ()),
    "service": (("service",), ("environment", "entrypoint", "props")),
    "version_metadata": ((), ()),
}
# What the API knows beside them; `keep_bindings` may name any.
OTHER_TYPES = {
    "ai", "analytics_engine", "assets", "browser", "d1", "data_blob", "dispatch_namespace",
    "durable_object_namespace", "flagship", "hyperdrive", "images", "mtls_certificate", "r2_bucket", "ratelimit",
    "secret_key", "secrets_store_secret", "send_email", "text_blob", "vectorize", "vpc_service", "wasm_module",
    "worker_loader", "workflow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Account:
    """What scripts are checked against; `is_consumer` says whether a script takes a queue's messages."""

    has_queue: Callable[[str], bool]
    has_namespace: Callable[[str], bool]
    has_script: Callable[[str], bool]
    is_consumer: Callable[[str], bool]


def shown_binding(binding: Mapping[str, Any]) -> dict[str, Any]:
    """A binding as the API shows it: never with a secret's value."""
    hidden = {"text"} if binding["type"] in SECRET_TYPES else set()
    return {key: value for key, value in binding.items() if key not in hidden}


def shown_secrets(version: Version) -> list[dict[str, Any]]:
    return [shown_binding(binding) for binding in version.bindings if binding["type"] in SECRET_TYPES]


def changed_secrets(version: Version, since: Version) -> list[str]:
    """Names of the secrets whose values are not the same in both versions."""
    before, after = (
        {binding["name"]: binding.get("text") for binding in each.bindings if binding["type"] in SECRET_TYPES}
        for each in (version, since)
    )
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def check_name(name: str) -> None:
    if len(name) > BINDING_NAME_LIMIT:
        raise RefusalError(400, 10100, f"binding name {name[:20]!r}… is longer than {BINDING_NAME_LIMIT} characters")
    if not BINDING_NAME.fullmatch(name):
        raise RefusalError(400, 10021, f"binding name {name!r} is not an identifier")


def check_targets(bindings: Iterable[Mapping[str, Any]], account: Account) -> None:
    """What bindings lead to must be there."""
    for binding in bindings:
        kind = binding["type"]
        if kind == "queue" and not account.has_queue(binding["queue_name"]):
            raise RefusalError(400, 11000, f"Queue {binding['queue_name']!r} does not exist")
        if kind == "kv_namespace" and not account.has_namespace(binding["namespace_id"]):
            code = 10041 if NAMESPACE_ID.fullmatch(binding["namespace_id"]) else 10042
            raise RefusalError(400, code, f"KV namespace {binding['namespace_id']!r} is not valid or does not exist")
        if kind == "service" and not account.has_script(binding["service"]):
            raise RefusalError(400, 10143, f"binding {binding['name']}: Worker {binding['service']!r} does not exist")


def resolve_bindings(
    metadata: Mapping[str, Any], *, script: str, scripts: Scripts, account: Account, strict: bool
) -> tuple[Mapping[str, Any], ...]:
    """The bindings of a new version: the ones sent, the inherited, and those kept by their type.

    Inheriting is from the latest version, deployed or not, unless a binding names another one.
    """
    sent = _check_shape(metadata.get("bindings", []))
    kept = _check_kept(metadata.get("keep_bindings") or [])
    before = {b["name"]: b for b in scripts.latest(script).bindings} if scripts.find(script) else {}
    resolved: list[Mapping[str, Any]] = []
    for binding in sent:
        if binding["type"] != "inherit":
            resolved.append(binding)
        elif origin := _find_origin(binding, before, script, scripts):
            resolved.append({**origin, "name": binding["name"]})
        elif strict:
            raise RefusalError(400, 10057, f"binding {binding['name']}: there is nothing to inherit")
    names = {binding["name"] for binding in sent}
    resolved += [binding for name, binding in before.items() if binding["type"] in kept and name not in names]
    if sum(binding["type"] in VARIABLE_TYPES for binding in resolved) > VARIABLE_COUNT_LIMIT:
        raise RefusalError(400, 10055, f"more than {VARIABLE_COUNT_LIMIT} variables and secrets")
    check_targets(resolved, account)
    return tuple(resolved)


def _find_origin(
    binding: Mapping[str, Any], latest: Mapping[str, Mapping[str, Any]], script: str, scripts: Scripts
) -> Mapping[str, Any] | None:
    name = binding.get("old_name") or binding["name"]
    version_id = binding.get("version_id", "latest")
    if version_id == "latest":
        return latest.get(name)
    try:
        bindings = scripts.version(script, version_id).bindings
    except RefusalError:
        return None
    return next((origin for origin in bindings if origin["name"] == name), None)


def _check_kept(kept: Any) -> frozenset[str]:
    known = BINDING_FIELDS.keys() | OTHER_TYPES
    if not isinstance(kept, list) or not all(isinstance(kind, str) and kind in known for kind in kept):
        raise RefusalError(400, 10021, f"keep_bindings is a list of binding types: {kept!r}")
    return frozenset(kept)


def _check_shape(bindings: Any) -> list[dict[str, Any]]:
    if not isinstance(bindings, list):
        raise RefusalError(400, 10021, "bindings must be a list")
    names = set()
    for binding in bindings:
        if not isinstance(binding, dict) or not isinstance(binding.get("name"), str) or not binding["name"]:
            raise RefusalError(400, 10052, "a binding has no name")
        if not isinstance(binding.get("type"), str):
            raise RefusalError(400, 10021, f"binding {binding['name']} has no type")
        check_name(binding["name"])
        if binding["name"] in names:
            raise RefusalError(400, 10053, f"binding name {binding['name']!r} is used twice")
        names.add(binding["name"])
        _check_fields(binding)
    return bindings


def _check_fields(binding: Mapping[str, Any]) -> None:
    kind, name = binding["type"], binding["name"]
    if kind == "inherit":
        required: tuple[str, ...] = ()
        known = INHERIT_FIELDS
    elif kind in BINDING_FIELDS:
        required, optional = BINDING_FIELDS[kind]
        known = frozenset({"type", "name", *required, *optional})
    else:
        known_types = ", ".join(BINDING_FIELDS)
        raise RefusalError(400, 10021, f"binding {name}: the type {kind!r} does not run here; known: {known_types}")
    for field in required:
        if field not in binding or (field != "json" and not isinstance(binding[field], str)):
            raise RefusalError(400, 10021, f"binding {name}: {kind} needs {field}")
    if not binding.keys() <= known:
        raise RefusalError(400, 10021, f"binding {name}: {kind} has no {', '.join(sorted(binding.keys() - known))}")
    if kind == "inherit" and not all(isinstance(value, str) for value in binding.values()):
        raise RefusalError(400, 10021, f"binding {name}: {', '.join(sorted(known))} are texts")
    if binding.get("entrypoint") or binding.get("props"):
        raise RefusalError(400, 10021, f"binding {name}: service bindings carry fetch only here, no entrypoint")
    if kind in VARIABLE_TYPES:
        check_variable_size(name, json.dumps(binding["json"]) if kind == "json" else binding["text"])


def check_variable_size(name: str, text: str) -> None:
    if len(text.encode()) > VARIABLE_BYTES_LIMIT:
        raise RefusalError(400, 10054, f"binding {name} is larger than {VARIABLE_BYTES_LIMIT} bytes")
