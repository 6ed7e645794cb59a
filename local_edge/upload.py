"""Reading a script upload: the multipart form, its modules, and its bindings resolved against the account.

What is checked and refused here is checked before anything is stored or started, so a refused upload leaves no trace.
Limits and codes: Workers multipart upload metadata, Workers error codes.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from local_edge.envelope import RefusalError
from local_edge.scripts import StoredModule, Version
from local_edge.store import now_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from local_edge.store import Store

BINDING_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
WORKER_BYTES_LIMIT = 64 * 1024 * 1024
VARIABLE_BYTES_LIMIT = 5 * 1000
VARIABLE_COUNT_LIMIT = 128
VARIABLE_TYPES = frozenset({"plain_text", "secret_text", "json"})
DEFAULT_COMPATIBILITY_DATE = "2021-11-02"
METADATA_BYTES_LIMIT = 8 * 1024 * 1024
MODULE_KINDS = {
    "application/javascript+module": "esModule",
    "text/javascript+module": "esModule",
    "application/wasm": "wasm",
    "application/octet-stream": "data",
    "text/plain": "text",
}
# Accepted and left out, as they only serve stack traces.
IGNORED_CONTENT_TYPES = frozenset({"application/source-map"})
BINDING_FIELDS: dict[str, tuple[str, ...]] = {
    "plain_text": ("text",),
    "secret_text": ("text",),
    "json": ("json",),
    "queue": ("queue_name",),
    "kv_namespace": ("namespace_id",),
    "service": ("service",),
    "version_metadata": (),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A module as it was uploaded."""

    name: str
    kind: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Account:
    """What bindings are checked against."""

    has_queue: Callable[[str], bool]
    has_namespace: Callable[[str], bool]
    has_script: Callable[[str], bool]


def check_script_name(name: str) -> None:
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise RefusalError(400, 10016, f"Invalid Worker name {name!r}: lower case, digits and dashes, from a letter on")


async def read_form(request: Request) -> tuple[dict[str, Any], list[Part]]:
    """The metadata and the modules of an upload; a module's name is its part's filename."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise RefusalError(400, 10001, "Content-Type must be multipart/form-data")
    metadata: str | bytes | None = None
    parts = []
    try:
        async with request.form(max_files=1000, max_part_size=METADATA_BYTES_LIMIT) as form:
            for name, value in form.multi_items():
                if name == "metadata":
                    metadata = await value.read() if isinstance(value, UploadFile) else value
                elif isinstance(value, UploadFile) and value.filename:
                    content_type = (value.content_type or "").split(";")[0].strip()
                    content = await value.read()
                    if content_type not in IGNORED_CONTENT_TYPES:
                        parts.append(Part(value.filename, module_kind(value.filename, content_type), content))
                else:
                    raise RefusalError(400, 10006, f"the part {name!r} has no filename, so it names no module")
    except HTTPException as exc:  # starlette's, for a form that it cannot parse
        raise RefusalError(400, 10006, f"could not parse the form: {exc.detail}") from exc
    if metadata is None:
        raise RefusalError(400, 10006, "the part 'metadata' is missing")
    return _read_metadata(metadata), parts


def module_kind(name: str, content_type: str) -> str:
    """The workerd kind of a module; 10021 for a content type that the API does not know or this edge cannot run."""
    if content_type not in MODULE_KINDS:
        known = ", ".join(sorted(MODULE_KINDS))
        raise RefusalError(400, 10021, f"the module {name} has content type {content_type or '(none)'}; known: {known}")
    return MODULE_KINDS[content_type]


def _read_metadata(text: str | bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
    except ValueError:
        raise RefusalError(400, 10006, "the part 'metadata' is not JSON") from None
    if not isinstance(metadata, dict):
        raise RefusalError(400, 10006, "the part 'metadata' is not a JSON object")
    return metadata


def check_modules(metadata: Mapping[str, Any], parts: Sequence[Part]) -> list[Part]:
    """The modules, the main one first."""
    main = metadata.get("main_module")
    if not isinstance(main, str):
        raise RefusalError(400, 10021, "metadata names no main_module (only ES module Workers run here)")
    by_name = {part.name: part for part in parts}
    if len(by_name) != len(parts):
        raise RefusalError(400, 10021, "two modules have the same name")
    if main not in by_name:
        raise RefusalError(400, 10021, f"No such module: main_module {main!r} is not among the uploaded files")
    if by_name[main].kind != "esModule":
        raise RefusalError(400, 10021, f"main_module {main!r} is not an ES module")
    if sum(len(part.content) for part in parts) > WORKER_BYTES_LIMIT:
        raise RefusalError(413, 10027, f"Your Worker exceeds the size limit of {WORKER_BYTES_LIMIT} bytes")
    return [by_name[main], *(part for part in parts if part.name != main)]


def _check_binding(binding: Mapping[str, Any], account: Account) -> None:
    kind, name = binding["type"], binding["name"]
    if kind not in BINDING_FIELDS:
        known = ", ".join(BINDING_FIELDS)
        raise RefusalError(400, 10021, f"binding {name}: the type {kind!r} does not run here; known: {known}")
    for field in BINDING_FIELDS[kind]:
        if field not in binding or (field != "json" and not isinstance(binding[field], str)):
            raise RefusalError(400, 10021, f"binding {name}: {kind} needs {field}")
    if kind in VARIABLE_TYPES:
        value = json.dumps(binding["json"]) if kind == "json" else binding["text"]
        if len(value.encode()) > VARIABLE_BYTES_LIMIT:
            raise RefusalError(400, 10054, f"binding {name}: {kind} is larger than {VARIABLE_BYTES_LIMIT} bytes")
    _check_target(binding, account)


def _check_target(binding: Mapping[str, Any], account: Account) -> None:
    """What a binding leads to must be there."""
    kind, name = binding["type"], binding["name"]
    if kind == "queue" and not account.has_queue(binding["queue_name"]):
        raise RefusalError(400, 11000, f"Queue {binding['queue_name']!r} does not exist")
    if kind == "kv_namespace" and not account.has_namespace(binding["namespace_id"]):
        raise RefusalError(400, 10041, f"KV namespace {binding['namespace_id']!r} is not valid or does not exist")
    if kind == "service":
        if not account.has_script(binding["service"]):
            raise RefusalError(400, 10143, f"binding {name}: Worker {binding['service']!r} does not exist")
        if binding.get("entrypoint") or binding.get("props"):
            raise RefusalError(400, 10021, f"binding {name}: service bindings carry fetch only here, no entrypoint")


def _check_shape(bindings: Any) -> list[dict[str, Any]]:
    if not isinstance(bindings, list):
        raise RefusalError(400, 10021, "bindings must be a list")
    names = set()
    for binding in bindings:
        if not isinstance(binding, dict) or not isinstance(binding.get("name"), str) or not binding["name"]:
            raise RefusalError(400, 10052, "a binding has no name")
        if not isinstance(binding.get("type"), str):
            raise RefusalError(400, 10021, f"binding {binding['name']} has no type")
        if not BINDING_NAME.fullmatch(binding["name"]):
            raise RefusalError(400, 10021, f"binding name {binding['name']!r} is not an identifier")
        if binding["name"] in names:
            raise RefusalError(400, 10053, f"binding name {binding['name']!r} is used twice")
        names.add(binding["name"])
    return bindings


def resolve_bindings(
    metadata: Mapping[str, Any], previous: Version | None, account: Account, *, strict: bool
) -> tuple[Mapping[str, Any], ...]:
    """The bindings of the new version: the ones sent, the inherited, and those kept by their type."""
    sent = _check_shape(metadata.get("bindings", []))
    before = {binding["name"]: binding for binding in previous.bindings} if previous else {}
    resolved: list[Mapping[str, Any]] = []
    for binding in sent:
        if binding["type"] != "inherit":
            _check_binding(binding, account)
            resolved.append(binding)
            continue
        origin = before.get(binding.get("old_name") or binding["name"])
        if origin is not None:
            resolved.append({**origin, "name": binding["name"]})
        elif strict:
            raise RefusalError(400, 10057, f"binding {binding['name']}: there is nothing to inherit")
    kept = set(metadata.get("keep_bindings") or ())
    names = {binding["name"] for binding in sent}
    resolved += [binding for name, binding in before.items() if binding["type"] in kept and name not in names]
    if sum(binding["type"] in VARIABLE_TYPES for binding in resolved) > VARIABLE_COUNT_LIMIT:
        raise RefusalError(400, 10055, f"more than {VARIABLE_COUNT_LIMIT} variables and secrets")
    return tuple(resolved)


def make_version(
    store: Store,
    script: str,
    metadata: Mapping[str, Any],
    parts: Sequence[Part],
    *,
    number: int,
    bindings: tuple[Mapping[str, Any], ...],
) -> Version:
    """Keep the modules as files and describe them; the version itself is not recorded yet."""
    modules = tuple(
        StoredModule(part.name, part.kind, store.write_blob(part.content), len(part.content)) for part in parts
    )
    identity = json.dumps([[module.name, module.kind, module.digest] for module in modules])
    left_out = {"bindings", "keep_bindings", "compatibility_date", "compatibility_flags", "main_module"}
    return Version(
        version_id=str(uuid.uuid4()),
        script=script,
        number=number,
        created_on=now_text(),
        etag=hashlib.sha256(identity.encode()).hexdigest(),
        compatibility_date=str(metadata.get("compatibility_date") or DEFAULT_COMPATIBILITY_DATE),
        compatibility_flags=tuple(metadata.get("compatibility_flags") or ()),
        bindings=bindings,
        modules=modules,
        metadata={key: value for key, value in metadata.items() if key not in left_out},
    )
