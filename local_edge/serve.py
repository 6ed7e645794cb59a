"""`local-edge serve`: one built Worker from a directory, with its queues and KV namespaces made on the fly.

The directory is what would be uploaded: metadata.json, and beside it the modules under the names that imports use.
No front stands before the Worker, so what a benchmark measures is the Worker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flagedge.errors import LocalError
from local_edge.bindings import resolve_bindings
from local_edge.envelope import RefusalError
from local_edge.metadata import read_annotations
from local_edge.upload import Part, check_modules, make_version, module_kind

if TYPE_CHECKING:
    from local_edge.edge import Edge

METADATA_NAME = "metadata.json"
ETAG_NAME = "RESOLVER_STATE_ETAG"
SCRIPT_NAME = "worker"
NAMESPACE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
CONTENT_TYPES = {
    ".js": "application/javascript+module",
    ".mjs": "application/javascript+module",
    ".wasm": "application/wasm",
    ".json": "text/plain",
    ".txt": "text/plain",
    ".bin": "application/octet-stream",
}


@dataclass(frozen=True, slots=True)
class BuiltWorker:
    """A Worker as it lies in a directory."""

    metadata: Mapping[str, Any]
    parts: tuple[Part, ...]


def read_worker(directory: Path, *, variables: Mapping[str, str], secrets: Mapping[str, str]) -> BuiltWorker:
    """Read a built Worker; `variables` and `secrets` replace bindings of their names, or are added."""
    hint = "Make it with `sync-job build --state FILE --out DIR`"
    try:
        metadata = json.loads((directory / METADATA_NAME).read_text("utf-8"))
        paths = sorted(path for path in directory.rglob("*") if path.is_file() and path != directory / METADATA_NAME)
        contents = {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}
    except OSError as exc:
        raise LocalError(f"{directory} holds no built Worker: {exc.strerror} ({exc.filename})", hint=hint) from exc
    except ValueError as exc:
        raise LocalError(f"{directory / METADATA_NAME} is not JSON: {exc}", hint=hint) from exc
    if not isinstance(metadata, dict) or not isinstance(metadata.get("bindings", []), list):
        raise LocalError(f"{directory / METADATA_NAME} is not an upload's metadata", hint=hint)
    parts = tuple(Part(name, _kind(name), content) for name, content in contents.items())
    given: dict[str, dict[str, Any]] = {
        name: {"type": "plain_text", "name": name, "text": text} for name, text in variables.items()
    }
    given |= {name: {"type": "secret_text", "name": name, "text": text} for name, text in secrets.items()}
    # There is nothing to inherit from here; what is inherited in production is given with --secret.
    kept = [b for b in metadata.get("bindings", []) if b.get("name") not in given and b.get("type") != "inherit"]
    return BuiltWorker({**metadata, "bindings": [*kept, *given.values()]}, parts)


def _kind(name: str) -> str:
    content_type = CONTENT_TYPES.get(Path(name).suffix)
    if content_type is None:
        known = ", ".join(CONTENT_TYPES)
        raise LocalError(f"the module {name} has an unknown extension", hint=f"Known ones: {known}")
    return module_kind(name, content_type)


async def serve_worker(edge: Edge, worker: BuiltWorker, port: int) -> int:
    """Start the Worker on `port` (0: any), its queues (with a pull consumer) and namespaces made first.

    Returns the port. Raises StartError or RefusalError with the reason when it does not start.
    """
    for binding in worker.metadata["bindings"]:
        if binding.get("type") == "queue" and edge.queues.find(binding["queue_name"]) is None:
            queue = edge.queues.create(binding["queue_name"], {})
            settings = {"batch_size": 100, "visibility_timeout_ms": 60_000, "max_retries": 100, "retry_delay": 0}
            edge.queues.add_consumer(queue, {"type": "http_pull", "dead_letter_queue": "", "settings": settings})
        elif binding.get("type") == "kv_namespace" and not edge.namespaces.has(binding["namespace_id"]):
            namespace_id = binding["namespace_id"]
            if not NAMESPACE_ID.fullmatch(namespace_id):
                raise RefusalError(400, 10042, f"KV namespace id {namespace_id!r} is not valid")
            edge.namespaces.create(namespace_id, namespace_id=namespace_id)
    parts = check_modules(worker.metadata, worker.parts)
    bindings = resolve_bindings(
        worker.metadata, script=SCRIPT_NAME, scripts=edge.scripts, account=edge.account, strict=True
    )
    version = make_version(
        edge.store, SCRIPT_NAME, worker.metadata, parts, number=1, bindings=bindings,
        annotations=read_annotations(worker.metadata.get("annotations"), triggered_by="upload"),
    )  # fmt: skip
    workerd = await edge.runtime.start_at(version, f"127.0.0.1:{port}")
    return workerd.ports["http"]
