"""A Worker that binds ours, in a workerd of its own: the account on loopback knows no service bindings yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workerd import run_config

from sync_job.assemble import COMPATIBILITY_DATE, DeployedFacts, assemble_upload
from sync_job.compile import compile_plan
from sync_job.decode import decode_state
from sync_job.settings import WorkerSettings

_CONFIG = """
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "caller", worker = .caller), (name = "flags", worker = .flags), (name = "sink", worker = .sink)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "caller")]
);
const caller :Workerd.Worker = (
  modules = [(name = "caller.js", esModule = embed "caller.js")],
  compatibilityDate = "DATE",
  compatibilityFlags = ["nodejs_compat"],
  bindings = [
    (name = "FLAGS", service = (
      name = "flags", entrypoint = "Flags", props = (json = "{\\"client\\":\\"clients/c\\"}"))),
    (name = "PLAIN", service = (name = "flags", entrypoint = "Flags")),
    (name = "STRANGER", service = (name = "flags", entrypoint = "Flags", props = (json = "{\\"client\\":\\"x\\"}"))),
    (name = "SINK", service = "sink")
  ]
);
const flags :Workerd.Worker = (
  modules = [
    (name = "worker.js", esModule = embed "worker.js"), (name = "murmur3.wasm", wasm = embed "murmur3.wasm"),
    (name = "plan.json", text = embed "plan.json"), (name = "bitsets.bin", data = embed "bitsets.bin")
  ],
  compatibilityDate = "DATE",
  bindings = [(name = "flag_logs_queue", queue = "sink"), (name = "LOG_LINGER_MS", text = "0")]
);
const sink :Workerd.Worker = (
  modules = [(name = "sink.js", esModule = embed "sink.js")],
  compatibilityDate = "DATE"
);
"""
# The queue behind ours: it takes messages, and gives them away once asked.
_SINK = b"""
const messages = [];
export default {
  async fetch(request) {
    if (request.method === "GET") return Response.json(messages.splice(0));
    messages.push(await request.json());
    return Response.json({ metadata: { metrics: { backlogCount: 0, backlogBytes: 0 } } });
  },
};
"""


@contextmanager
def run_caller(script: bytes, state_payload: bytes) -> Iterator[str]:
    """Serve a module beside the Worker with a state; the module's URL.

    It binds FLAGS (with props that name the client `c`), PLAIN (without props) and STRANGER (an unknown client), and
    SINK: a GET there takes the flag-log messages that came since the last one.
    """
    plan = compile_plan(decode_state(state_payload), etag='"1"')
    upload = assemble_upload(plan, WorkerSettings(), facts=DeployedFacts("digest"))
    files = {module.name: module.content for module in upload.modules} | {"caller.js": script, "sink.js": _SINK}
    with run_config(_CONFIG.replace("DATE", COMPATIBILITY_DATE), files) as (url, _):
        yield url
