"""workerd processes that serve a directory as `sync-job build` writes it, and what they cost.

CPU time is that of a whole process, all threads, user and system; Linux alone lets another process read it so finely.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.client import Exchange
from local_edge.capnp import quote
from local_edge.process import find_workerd

CAN_MEASURE_PROCESSES = sys.platform == "linux"
SERVERS_CORE = max(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None
FLOOR_SCRIPT = Path("worker/bench/floor.js")
_KINDS = {".js": "esModule", ".wasm": "wasm", ".json": "text", ".txt": "text", ".bin": "data"}
_HOP_HEADERS = {"content-length", "date", "connection", "transfer-encoding"}
_CONFIG = """using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main)%(services)s],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")]%(flags)s
);
const main :Workerd.Worker = (
  modules = [%(modules)s],
  compatibilityDate = %(date)s,
  bindings = [%(bindings)s]
);
"""


def build_worker(payload: bytes, directory: Path) -> Path:
    """What sync_job uploads for a state, in `directory`/worker."""
    state = directory / "state.pb"
    state.write_bytes(payload)
    sync_job = str(Path(sys.executable).with_name("sync-job"))
    command = [sync_job, "build", "--state", str(state), "--out", str(directory / "worker")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})
    return directory / "worker"


def build_floor(worker: Path, answer: Exchange) -> Path:
    """A Worker beside `worker` that answers anything with this answer."""
    floor = worker.with_name("floor")
    floor.mkdir()
    metadata = json.loads((worker / "metadata.json").read_text())
    metadata["bindings"] = []
    (floor / "metadata.json").write_text(json.dumps(metadata))
    (floor / "worker.js").write_bytes(FLOOR_SCRIPT.read_bytes())
    (floor / "answer.txt").write_bytes(answer.body)
    headers = {name: value for name, value in answer.headers.items() if name not in _HOP_HEADERS}
    (floor / "headers.txt").write_text(json.dumps(headers))
    return floor


def build_laden_floor(worker: Path, floor: Path) -> Path:
    """A floor that imports the plan's modules too and does nothing with them: what loading them costs workerd."""
    laden = worker.with_name("laden_floor")
    shutil.copytree(floor, laden)
    for name in ("plan.json", "bitsets.bin"):
        shutil.copy(worker / name, laden)
    script = laden / "worker.js"
    script.write_text('import "./plan.json";\nimport "./bitsets.bin";\n' + script.read_text())
    return laden


def _modules(worker: Path, main: str) -> list[str]:
    """Names of the modules, the main one first."""
    names = [path.relative_to(worker).as_posix() for path in worker.rglob("*") if path.suffix in _KINDS]
    return sorted((name for name in names if name != "metadata.json"), key=lambda name: (name != main, name))


def _write_config(worker: Path, *, queue_port: int | None, expose_gc: bool) -> str:
    """workerd's configuration, for a file beside the directory; without a `queue_port` the queue is left unbound."""
    metadata = json.loads((worker / "metadata.json").read_text())
    modules = [
        f"(name = {quote(name)}, {_KINDS[Path(name).suffix]} = embed {quote(worker.name + '/' + name)})"
        for name in _modules(worker, metadata["main_module"])
    ]
    bindings, services = [], ""
    for binding in metadata["bindings"]:
        if binding["type"] == "plain_text":
            bindings.append(f"(name = {quote(binding['name'])}, text = {quote(binding['text'])})")
        elif binding["type"] == "queue" and queue_port is not None:
            bindings.append(f'(name = {quote(binding["name"])}, queue = "sink")')
            services = f', (name = "sink", external = (address = "127.0.0.1:{queue_port}", http = ()))'
    filled = {
        "services": services,
        "flags": ',\n  v8Flags = ["--expose-gc"]' if expose_gc else "",
        "modules": ",\n    ".join(modules),
        "date": quote(metadata["compatibility_date"]),
        "bindings": ",\n    ".join(bindings),
    }
    return _CONFIG % filled


@dataclass(frozen=True, slots=True)
class Server:
    """A running workerd; `started_at` is of `time.perf_counter`, just before the process was made."""

    process_id: int
    port: int
    inspector_port: int
    started_at: float

    def cpu_s(self) -> float:
        return read_cpu_s(self.process_id)

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.process_id}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0


@contextmanager
def serve(worker: Path, *, queue_port: int | None = None, inspector: bool = False) -> Iterator[Server]:
    """Run workerd with the directory; it ends with the block."""
    with tempfile.NamedTemporaryFile("w", dir=worker.parent, suffix=".capnp") as config:
        config.write(_write_config(worker, queue_port=queue_port, expose_gc=inspector))
        config.flush()
        read_end, write_end = os.pipe()
        workerd = str(find_workerd(None, os.environ, Path.cwd()))
        command = [workerd, "serve", config.name, f"--control-fd={write_end}"]
        if inspector:
            command.append("--inspector-addr=127.0.0.1:0")
        began = time.perf_counter()
        with _on_servers_core():
            process = subprocess.Popen(command, pass_fds=[write_end])
        os.close(write_end)
        try:
            with os.fdopen(read_end) as control:
                ports: dict[str, int] = {}
                while "listen" not in ports:
                    line = control.readline()
                    if not line:
                        raise ChildProcessError("workerd did not start; it said why")
                    event = json.loads(line)
                    ports[event["event"]] = event["port"]
                yield Server(process.pid, ports["listen"], ports.get("listen-inspector", 0), began)
        finally:
            process.kill()
            process.wait()


def read_cpu_s(process_id: int) -> float:
    """CPU time of a process so far. The clock's number is what clock_getcpuclockid(3) makes of a process id."""
    return time.clock_gettime((~process_id << 3) | 2)


def pin_to_servers_core(process_id: int) -> None:
    if SERVERS_CORE is not None:
        os.sched_setaffinity(process_id, {SERVERS_CORE})


def stay_off_servers_core() -> None:
    """Leave the servers' core to them, where there is another one."""
    if SERVERS_CORE is not None and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {SERVERS_CORE})


@contextmanager
def _on_servers_core() -> Iterator[None]:
    """Let processes that start now run, with all their threads, on the servers' core alone."""
    if SERVERS_CORE is None:
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SERVERS_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)
