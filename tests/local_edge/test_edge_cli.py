"""The command `local-edge`, as a process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

COMMAND = [sys.executable, "-m", "local_edge.cli"]
CODE = """
export default { async fetch(request, env) {
  await env.FLAG_LOGS.send("row", { contentType: "text" });
  return Response.json([env.RESOLVER_STATE_ETAG, env.NAME, env.KEY, await env.KV.get("none")]);
} };
"""


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False, env=environ)


@contextmanager
def started(*arguments: str) -> Iterator[str]:
    """The first line that the command prints; SIGTERM ends it with 0 and without a word on stderr."""
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


@pytest.fixture
def built_worker(tmp_path: Path) -> Path:
    directory = tmp_path / "built"
    directory.mkdir()
    bindings = [
        {"type": "queue", "name": "FLAG_LOGS", "queue_name": "flag-logs"},
        {"type": "kv_namespace", "name": "KV", "namespace_id": "sticky"},
        {"type": "plain_text", "name": "RESOLVER_STATE_ETAG", "text": '"built"'},
        {"type": "inherit", "name": "KEY"},
    ]
    metadata = {"main_module": "worker.js", "compatibility_date": "2026-10-01", "bindings": bindings}
    (directory / "metadata.json").write_text(json.dumps(metadata))
    (directory / "worker.js").write_text(CODE)
    return directory


def test_up(workerd: Path, tmp_path: Path) -> None:
    """`up --json` prints where everything is, serves it, and ends cleanly on SIGTERM."""
    with started(
        "up", "--dir", str(tmp_path), "--port", "0", "--worker-port", "0", "--json", "--workerd", str(workerd)
    ) as line:
        addresses = json.loads(line)
        answer = httpx.get(f"{addresses['api']}/accounts", headers={"authorization": "Bearer any"}).json()
        assert answer["result"][0]["id"] == addresses["account_id"]


def test_serve(workerd: Path, built_worker: Path) -> None:
    """`serve` runs a built Worker with its queue and namespace, and with the variables and secrets given."""
    options = ["--port", "0", "--var", "NAME=a=b", "--secret", "KEY=shh", "--etag", '"mine"']
    with started("serve", str(built_worker), *options, "--workerd", str(workerd)) as line:
        word, url = line.split()
        assert word == "ready"
        assert httpx.get(url).json() == ['"mine"', "a=b", "shh", None]


def test_serve_of_a_worker_that_does_not_start(workerd: Path, built_worker: Path) -> None:
    """A Worker that throws on start is one error line with its words."""
    (built_worker / "worker.js").write_text("throw new Error('boom');")
    failed = run("serve", str(built_worker), "--port", "0", "--workerd", str(workerd))
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: the Worker does not start: Uncaught Error: boom")


def test_busy_port(workerd: Path, tmp_path: Path) -> None:
    """A port in use is one error line that names it and the option to change it."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        failed = run("up", "--dir", str(tmp_path), "--port", port, "--worker-port", "0", "--workerd", str(workerd))
    expected = f"error: port {port} on 127.0.0.1 cannot be used: Address already in use. Choose another with --port\n"
    assert (failed.returncode, failed.stderr) == (1, expected)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["up", "--workerd", "/no/such/workerd"], 1, "--workerd or $WORKERD"),
        (["serve", "/no/such/directory"], 1, "sync-job build"),
        (["serve", "/no/such/directory", "--var", "novalue"], 2, "--var takes NAME=VALUE"),
        (["up", "--port", "70000"], 2, "--port"),
    ],
)
def test_mistakes(arguments: list[str], code: int, said: str) -> None:
    """A mistake is told on stderr with the way out; its exit code says of which class it is."""
    failed = run(*arguments)
    assert failed.returncode == code
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr
