"""Reading a script upload: the multipart form, its metadata and its modules.

What is checked and refused here is checked before anything is stored or started, so a refused upload leaves no trace.
Limits and codes: Workers multipart upload metadata, Workers error codes.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from local_edge.envelope import RefusalError
from local_edge.metadata import VERSION_SETTINGS
from local_edge.scripts import StoredModule, Version
from local_edge.store import now_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from local_edge.store import Store

WORKER_BYTES_LIMIT = 64 * 1024 * 1024
DEFAULT_COMPATIBILITY_DATE = "2021-11-02"
METADATA_BYTES_LIMIT = 8 * 1024 * 1024
MODULE_KINDS = {
    "application/javascript+module": "esModule",
    "text/javascript+module": "esModule",
    "application/wasm": "wasm",
    "application/octet-stream": "data",
    "text/plain": "text",
    # Read so that it can be refused with its own code: this is no ES module.
    "application/javascript": "script",
    "text/javascript": "script",
}
# Accepted and left out, as they only serve stack traces.
IGNORED_CONTENT_TYPES = frozenset({"application/source-map"})


@dataclass(frozen=True, slots=True)
class Part:
    """A module as it was uploaded."""

    name: str
    kind: str
    content: bytes


def check_script_name(name: str) -> None:
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise RefusalError(400, 10016, f"Invalid Worker name {name!r}: lower case, digits and dashes, from a letter on")


async def read_form(request: Request) -> tuple[dict[str, Any], list[Part]]:
    """The metadata and the modules of an upload; a module's name is its part's filename."""
    check_multipart(request)
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
    return read_json_part("metadata", metadata), parts


def check_multipart(request: Request) -> None:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise RefusalError(400, 10001, "Content-Type must be multipart/form-data")


def module_kind(name: str, content_type: str) -> str:
    """The workerd kind of a module; 10021 for a content type that the API does not know or this edge cannot run."""
    if content_type not in MODULE_KINDS:
        known = ", ".join(sorted(MODULE_KINDS))
        raise RefusalError(400, 10021, f"the module {name} has content type {content_type or '(none)'}; known: {known}")
    return MODULE_KINDS[content_type]


def read_json_part(name: str, text: str | bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        raise RefusalError(400, 10006, f"the part {name!r} is not JSON") from None
    if not isinstance(body, dict):
        raise RefusalError(400, 10006, f"the part {name!r} is not a JSON object")
    return body


def check_modules(metadata: Mapping[str, Any], parts: Sequence[Part], *, script_code: int = 10021) -> list[Part]:
    """The modules, the main one first; `script_code` refuses what is no ES module Worker."""
    main = metadata.get("main_module")
    if not isinstance(main, str):
        raise RefusalError(400, script_code, "metadata names no main_module (only ES module Workers run here)")
    by_name = {part.name: part for part in parts}
    if len(by_name) != len(parts):
        raise RefusalError(400, 10021, "two modules have the same name")
    if main not in by_name:
        raise RefusalError(400, 10021, f"No such module: main_module {main!r} is not among the uploaded files")
    if by_name[main].kind != "esModule":
        raise RefusalError(400, script_code, f"main_module {main!r} is not an ES module")
    if scripts := [part.name for part in parts if part.kind == "script"]:
        raise RefusalError(400, 10021, f"{scripts[0]} is a CommonJS module, and these do not run here")
    if sum(len(part.content) for part in parts) > WORKER_BYTES_LIMIT:
        raise RefusalError(413, 10027, f"Your Worker exceeds the size limit of {WORKER_BYTES_LIMIT} bytes")
    return [by_name[main], *(part for part in parts if part.name != main)]


def make_version(
    store: Store,
    script: str,
    metadata: Mapping[str, Any],
    parts: Sequence[Part],
    *,
    number: int,
    bindings: tuple[Mapping[str, Any], ...],
    annotations: Mapping[str, str],
) -> Version:
    """Keep the modules as files and describe them; the version itself is not recorded yet."""
    modules = tuple(
        StoredModule(part.name, part.kind, store.write_blob(part.content), len(part.content)) for part in parts
    )
    identity = json.dumps([[module.name, module.kind, module.digest] for module in modules])
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
        metadata={key: metadata[key] for key in VERSION_SETTINGS if metadata.get(key) is not None},
        annotations=annotations,
    )
