"""The configuration files that workerd is started with (source: workerd.capnp of workerd)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_edge.scripts import Version

SLOT_COUNT = 64
BINDING_HEADER = "x-local-edge-binding"
# A client (a test) says here what `request.cf` is, as JSON.
CF_HEADER = "x-local-edge-cf"
# Origins of pages may be on loopback, which workerd's own default leaves out.
_NETWORK = '(name = "network", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true)))'
HEADER = 'using Workerd = import "/workerd/workerd.capnp";\n'


def quote(text: str) -> str:
    """A Cap'n Proto text literal; it knows bytes, so everything beyond printable ASCII is escaped as UTF-8 bytes."""
    safe = (chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}" for byte in text.encode())
    return f'"{"".join(safe)}"'


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where a version listens and where its bindings lead.

    `listen` is the address of its socket, `backend` the address that serves queues and KV, `blobs` the path from the
    configuration file to the modules, `services` the address of each Worker that it binds.
    """

    listen: str
    backend: str
    blobs: str
    services: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A main module of our own."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class _Bound:
    binding: str
    service: str = ""


def _external(name: str, address: str, http: str) -> str:
    return f"(name = {quote(name)}, external = (address = {quote(address)}, http = ({http})))"


def _cache(version: Version, wiring: Wiring) -> str:
    header = f"injectRequestHeaders = [(name = {quote(BINDING_HEADER)}, value = {quote(f'cache/{version.script}')})]"
    return _external("cache", wiring.backend, header)


def _bind_backend(field: str, kind: str, resource: str, name: str, wiring: Wiring) -> _Bound:
    service = f"{kind}/{resource}"
    header = f"injectRequestHeaders = [(name = {quote(BINDING_HEADER)}, value = {quote(service)})]"
    return _Bound(f"(name = {quote(name)}, {field} = {quote(service)})", _external(service, wiring.backend, header))


def _bind(binding: Mapping[str, Any], version: Version, wiring: Wiring) -> _Bound:
    kind, name = binding["type"], binding["name"]
    if kind == "queue":
        return _bind_backend("queue", "queue", binding["queue_name"], name, wiring)
    if kind == "kv_namespace":
        return _bind_backend("kvNamespace", "kv", binding["namespace_id"], name, wiring)
    if kind == "service":
        target = f"worker/{binding['service']}"
        cf_header = f"cfBlobHeader = {quote(CF_HEADER)}"
        address = wiring.services[binding["service"]]
        return _Bound(f"(name = {quote(name)}, service = {quote(target)})", _external(target, address, cf_header))
    if kind == "secret_text":
        return _Bound(f"(name = {quote(name)}, fromEnvironment = {quote(secret_variable(name))})")
    if kind == "plain_text":
        return _Bound(f"(name = {quote(name)}, text = {quote(binding['text'])})")
    value = binding["json"] if kind == "json" else _version_metadata(version)
    return _Bound(f"(name = {quote(name)}, json = {quote(json.dumps(value))})")


def _version_metadata(version: Version) -> dict[str, str]:
    tag = version.annotations.get("workers/tag", "")
    return {"id": version.version_id, "tag": tag, "timestamp": version.created_on}


def secret_variable(binding_name: str) -> str:
    """The environment variable that carries a secret to workerd, so that no file holds it."""
    return f"SECRET_{binding_name}"


def write_version_config(version: Version, wiring: Wiring, *, entry: Entry | None = None) -> str:
    """workerd's configuration for one version; secrets come from the environment (see `secret_variable`).

    An `entry` is a module of ours that is started in place of the version's main module, which it imports.
    """
    bound = [_bind(binding, version, wiring) for binding in version.bindings]
    reached = [_NETWORK, _cache(version, wiring)]
    services = ['(name = "main", worker = .main)', *reached, *sorted({item.service for item in bound if item.service})]
    modules = [
        f"(name = {quote(module.name)}, {module.kind} = embed {quote(f'{wiring.blobs}/{module.digest}')})"
        for module in version.modules
    ]
    if entry is not None:
        modules.insert(0, f"(name = {quote(entry.name)}, esModule = {quote(entry.source)})")
    flags = ", ".join(quote(flag) for flag in version.compatibility_flags)
    socket = f'(name = "http", address = {quote(wiring.listen)}, http = (cfBlobHeader = {quote(CF_HEADER)}), service = "main")'  # noqa: E501 - one line of configuration
    bindings = ",\n    ".join(item.binding for item in bound)
    return (
        f"{HEADER}const config :Workerd.Config = (\n  services = [{_lines(services)}],\n  sockets = [{socket}]\n);\n"
        f"const main :Workerd.Worker = (\n  modules = [{_lines(modules)}],\n"
        f"  compatibilityDate = {quote(version.compatibility_date)}, compatibilityFlags = [{flags}],\n"
        f'  globalOutbound = "network", cacheApiOutbound = "cache",\n'
        f"  bindings = [{bindings}]\n);\n"
    )


def write_front_config(sockets: Path, script: str, port: int) -> str:
    """The configuration of a script's front: a public port, and two sockets below `sockets` for us."""
    client_ip = '(name = "cf-connecting-ip", value = "127.0.0.1")'
    http = f"cfBlobHeader = {quote(CF_HEADER)}, injectRequestHeaders = [{client_ip}]"
    slots = [_external(f"slot-{n}", slot_address(sockets, script, n), http) for n in range(SLOT_COUNT)]
    services = ['(name = "front", worker = .front)', *slots]
    bindings = [f'(name = "SLOT_{n}", service = "slot-{n}")' for n in range(SLOT_COUNT)]
    bindings.append(f'(name = "SCRIPT", text = {quote(script)})')
    own = f"http = (cfBlobHeader = {quote(CF_HEADER)})"
    listeners = [
        f'(name = "http", address = "127.0.0.1:{port}", {own}, service = "front")',
        f'(name = "inside", address = {quote(inside_address(sockets, script))}, {own}, service = (name = "front", entrypoint = "inside"))',  # noqa: E501 - one line of configuration
        f'(name = "control", address = {quote(f"unix:{control_path(sockets, script)}")}, http = (), service = (name = "front", entrypoint = "control"))',  # noqa: E501 - one line of configuration
    ]
    source = quote(Path(__file__).with_name("front.js").read_text("utf-8"))
    return (
        f"{HEADER}const config :Workerd.Config = (\n"
        f"  services = [{_lines(services)}],\n  sockets = [{_lines(listeners)}]\n);\n"
        f'const front :Workerd.Worker = (\n  modules = [(name = "front.js", esModule = {source})],\n'
        f'  compatibilityDate = "2026-01-01",\n  bindings = [{_lines(bindings)}]\n);\n'
    )


def _socket_path(sockets: Path, script: str, end: str) -> Path:
    """Short whatever the script is called: a socket's path has about 100 bytes."""
    return sockets / f"{hashlib.sha256(script.encode()).hexdigest()[:12]}.{end}"


def slot_address(sockets: Path, script: str, slot: int) -> str:
    return f"unix:{_socket_path(sockets, script, str(slot))}"


def inside_address(sockets: Path, script: str) -> str:
    return f"unix:{_socket_path(sockets, script, 'inside')}"


def control_path(sockets: Path, script: str) -> Path:
    return _socket_path(sockets, script, "control")


def _lines(items: list[str]) -> str:
    return "\n    " + ",\n    ".join(items) + "\n  "
