"""What a Worker's modules export, found by running their global scope once, as the API does with every upload.

Source: Workers, "handlers" and "named_handlers" of an uploaded script; a Worker without any handler is a 10068.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from local_edge.capnp import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_edge.scripts import Version

# Parsing and the global scope of an upload may use this much CPU time.
STARTUP_CPU_LIMIT_S = 1.0
# workerd reads large modules from its configuration, which is no part of a Worker's startup and takes 7 ms a MiB.
LARGE_BYTES = 1024 * 1024
IDLE_SOURCE = "export default { fetch() {} };"
PROBE_NAME = "local-edge-probe.js"
# It exports what the Worker does, so that workerd judges those exports as it will when the Worker runs.
SOURCE = """
import * as worker from %s;
export * from %s;
const EVENTS = ["fetch", "scheduled", "queue", "email", "tail", "tailStream", "trace", "alarm", "test"];
function handlersOf(value) {
  const holder = typeof value === "function" ? value.prototype : value;
  if (holder === null || typeof holder !== "object") return [];
  return EVENTS.filter((name) => typeof holder[name] === "function");
}
export default {
  fetch() {
    const named = Object.keys(worker).filter((name) => name !== "default");
    return Response.json({
      handlers: handlersOf(worker.default),
      named: named.map((name) => ({ name, handlers: handlersOf(worker[name]) })),
    });
  },
};
"""


@dataclass(frozen=True, slots=True)
class Exports:
    """Event handlers of the default export, and those of the others by name."""

    handlers: tuple[str, ...]
    named_handlers: tuple[Mapping[str, Any], ...]
    startup_ms: int


def idle_version(version: Version) -> Version | None:
    """The version's large modules without its code, to see what reading them takes; None when there are none."""
    modules = tuple(module for module in version.modules if module.kind != "esModule")
    large = sum(module.size_bytes for module in modules) > LARGE_BYTES
    return replace(version, modules=modules) if large else None


def idle_entry() -> Entry:
    return Entry(PROBE_NAME, IDLE_SOURCE)


def probe_entry(main_module: str) -> Entry:
    specifier = json.dumps(f"./{main_module}")
    return Entry(PROBE_NAME, SOURCE % (specifier, specifier))


def read_exports(body: Mapping[str, Any], startup_s: float) -> Exports:
    named = tuple(entry for entry in body["named"] if entry["handlers"])
    return Exports(tuple(body["handlers"]), named, round(startup_s * 1000))
