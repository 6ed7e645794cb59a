"""The Worker's test entry point in a real workerd: plans come with the requests, so one process serves all states."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from local_edge.process import find_workerd
from sync_job.compile import compile_plan
from sync_job.compiled import Plan
from sync_job.decode import decode_state

REPOSITORY = Path(__file__).resolve().parent.parent
TEST_BUNDLE = REPOSITORY / "worker/build/test"
COMPATIBILITY_DATE = "2026-10-01"

_CONFIG = """using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")]
);
const main :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js"){wasm}],
  compatibilityDate = "{date}"
);
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the Worker."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Batch:
    """The answers to a batch of requests, and the flag-log messages that they caused."""

    answers: list[Answer]
    messages: list[dict[str, Any]]
    records: dict[str, str]
    """What the namespace of sticky assignments holds afterwards."""


class TestWorker:
    """A workerd process with the test entry point."""

    __test__ = False

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)

    def call(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Call internal functions of the Worker by name."""
        body = [{"name": name, "args": list(args)} for name, args in calls]
        answer = self.http.post("/call", content=json.dumps(body))
        answer.raise_for_status()
        return answer.json()

    def run(
        self,
        plan: Plan,
        requests: Sequence[dict[str, Any]],
        *,
        env: dict[str, Any] | None = None,
        kv: dict[str, Any] | None = None,
    ) -> Batch:
        """Send raw requests (path, method, headers, body text) to a Worker that holds `plan`."""
        batch: dict[str, Any] = {
            "plan": plan.text,
            "bits": base64.b64encode(plan.bits).decode(),
            "env": env or {},
            "requests": list(requests),
        }
        if kv is not None:
            batch["kv"] = kv
        answer = self.http.post("/batch", content=json.dumps(batch))
        answer.raise_for_status()
        body = answer.json()
        answers = [Answer(item["status"], item["body"], item["headers"]) for item in body["answers"]]
        return Batch(answers, [json.loads(message) for message in body["messages"]], body["records"])

    def resolve(
        self,
        payload: bytes,
        requests: Sequence[dict[str, Any]],
        *,
        env: dict[str, Any] | None = None,
        kv: dict[str, Any] | None = None,
    ) -> Batch:
        """Resolve a batch of API requests against a state (an encoded ClientResolverState)."""
        plan = compile_plan(decode_state(payload), etag='"test"')
        paths = [{"path": "/v1/flags:resolve", "body": json.dumps(request)} for request in requests]
        return self.run(plan, paths, env=env, kv=kv)


@contextmanager
def run_test_worker() -> Iterator[TestWorker]:
    """Start workerd with the test entry point; it ends with the block."""
    with run_workerd(TEST_BUNDLE / "worker.js", wasm={"murmur3.wasm": TEST_BUNDLE / "murmur3.wasm"}) as (url, _):
        worker = TestWorker(url)
        yield worker
        worker.http.close()


@contextmanager
def run_workerd(script: Path, *, wasm: Mapping[str, Path]) -> Iterator[tuple[str, int]]:
    """Serve a script that imports wasm modules by name, on a free port; its URL and the process id."""
    modules = "".join(f', (name = "{name}", wasm = embed "{name}")' for name in wasm)
    config = _CONFIG.replace("{wasm}", modules).replace("{date}", COMPATIBILITY_DATE)
    files = {name: path.read_bytes() for name, path in {"worker.js": script, **wasm}.items()}
    with run_config(config, files) as served:
        yield served


@contextmanager
def run_config(config: str, files: Mapping[str, bytes]) -> Iterator[tuple[str, int]]:
    """Serve a configuration over files that lie beside it, its one socket on a free port; URL and process id."""
    with tempfile.TemporaryDirectory() as directory:
        for name, content in {"config.capnp": config.encode(), **files}.items():
            Path(directory, name).write_bytes(content)
        read_end, write_end = os.pipe()
        workerd = find_workerd(None, os.environ, REPOSITORY)
        command = [workerd, "serve", str(Path(directory, "config.capnp")), f"--control-fd={write_end}"]
        process = subprocess.Popen(command, pass_fds=[write_end])
        os.close(write_end)
        try:
            with os.fdopen(read_end) as control:
                yield f"http://127.0.0.1:{json.loads(control.readline())['port']}", process.pid
        finally:
            process.kill()
            process.wait()
