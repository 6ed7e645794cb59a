"""What outlives what: addresses outlive redeploys, state outlives the process, no workerd outlives us."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from edge_account import EdgeAccount, new_name

from flagedge.errors import LocalError
from local_edge.server import LocalEdge
from local_edge.store import MIGRATIONS

NUMBERED = """
export default { async fetch(request, env, ctx) {
  const path = new URL(request.url).pathname;
  if (path === "/slow") await scheduler.wait(600);
  if (path === "/later") ctx.waitUntil(scheduler.wait(600).then(() => env.Q.send(env.N, { contentType: "text" })));
  if (path === "/cf") return Response.json(request.cf ?? null);
  if (path === "/echo") return new Response(request.body, { status: 207, headers: request.headers });
  if (path === "/where") return Response.json([request.method, request.url, request.headers.get("cf-connecting-ip")]);
  return new Response(env.N);
} };
"""


def number(value: int, queue_name: str = "") -> list[dict[str, str]]:
    bindings = [{"type": "plain_text", "name": "N", "text": str(value)}]
    return bindings + ([{"type": "queue", "name": "Q", "queue_name": queue_name}] if queue_name else [])


def test_no_request_fails_over_redeploys(account: EdgeAccount) -> None:
    """Requests on open connections all succeed while the version changes, and see the new one when its PUT returns."""
    script = new_name("redeploy")
    url = account.publish(script, NUMBERED, bindings=number(0))
    stop = threading.Event()
    seen: list[int] = []
    failures: list[object] = []

    def ask() -> None:
        with httpx.Client() as client:
            while not stop.is_set():
                try:
                    seen.append(int(client.get(url).raise_for_status().text))
                except (httpx.HTTPError, ValueError) as exc:
                    failures.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(1, 6):
        account.publish(script, NUMBERED, bindings=number(version))
        assert httpx.get(url).text == str(version)
    time.sleep(2.5)  # past the grace time: the old processes end meanwhile
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {5} <= set(seen) <= set(range(6))  # a busy machine may not get round to asking every version
    assert account.edge.worker_url(script) == url


def test_the_old_version_finishes_what_it_began(account: EdgeAccount) -> None:
    """A request in flight is answered by the version that began it, and its waitUntil work is done."""
    queue_id, queue_name = account.create_queue()
    script = new_name("finish")
    url = account.publish(script, NUMBERED, bindings=number(1, queue_name))
    answers: list[str] = []
    slow = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/slow").text))
    slow.start()
    assert httpx.get(f"{url}/later").status_code == 200
    account.publish(script, NUMBERED, bindings=number(2, queue_name))
    assert httpx.get(url).text == "2"
    slow.join()
    assert answers == ["1"]
    time.sleep(0.8)
    assert [message["body"] for message in account.pull(queue_id)] == ["1"]


def test_the_front_passes_everything(account: EdgeAccount) -> None:
    """Method, path, query, headers, status and a large body go through unchanged, and a test may say who asks."""
    url = account.publish(new_name("front"), NUMBERED, bindings=number(1))
    body = os.urandom(3_000_000)
    echo = httpx.post(f"{url}/echo", content=body, headers={"x-mine": "a, b"})
    assert (echo.status_code, echo.content, echo.headers["x-mine"]) == (207, body, "a, b")
    where = httpx.request("PROPFIND", f"{url}/where?a=%20b&c", headers={"cf-connecting-ip": "9.9.9.9"})
    assert where.json() == ["PROPFIND", f"{url}/where?a=%20b&c", "127.0.0.1"]
    assert httpx.get(f"{url}/cf", headers={"x-local-edge-cf": '{"country":"SE"}'}).json() == {"country": "SE"}


def test_a_crashed_version_of_a_split(account: EdgeAccount) -> None:
    """When one of two versions crashes the other goes on, and the crashed one comes back with its share."""
    script = new_name("crash")
    url, (live, candidate) = account.start_versions(script, 2)
    account.deploy(script, {live: 100, candidate: 0})
    override = {"cloudflare-workers-version-overrides": f'{script}="{candidate}"'}
    time.sleep(1.1)
    os.kill(account.edge.edge.runtime.pids(script)[candidate], signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (answer := httpx.get(url, headers=override)).status_code != 200:
        assert httpx.get(url).text == live
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer.text == candidate


def test_a_crashed_worker_comes_back(account: EdgeAccount) -> None:
    """When the process of a live version ends by itself it is started again behind the same address."""
    script = new_name("crash")
    url = account.publish(script, NUMBERED, bindings=number(1))
    time.sleep(1.1)
    (pid,) = account.edge.edge.runtime.pids(script).values()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (answer := httpx.get(url)).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer.text == "1"


def test_state_survives_a_restart(workerd: Path, tmp_path: Path) -> None:
    """Scripts with their secrets, leases, messages, values and addresses are there again after a restart."""
    with LocalEdge(dir=tmp_path, workerd=workerd) as edge:
        account = EdgeAccount(edge)
        queue_id, queue_name = account.create_queue()
        secret = {"type": "secret_text", "name": "KEY", "text": "top-secret-value"}
        url = account.publish("kept", NUMBERED, bindings=[*number(7, queue_name), secret])
        account.push(queue_id, 1, 2)
        (leased,) = account.pull(queue_id, batch_size=1)
        account_id = edge.edge.account_id
        account.http.close()
    with LocalEdge(dir=tmp_path, workerd=workerd) as edge:
        account = EdgeAccount(edge)
        assert edge.edge.account_id == account_id
        assert edge.worker_url("kept") == url
        assert httpx.get(url).text == "7"
        assert len(account.pull(queue_id)) == 1
        assert account.ack(queue_id, leased)["ackCount"] == 1
        account.http.close()
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.name.startswith("account.sqlite"):
            assert b"top-secret-value" not in path.read_bytes(), path


OLD_VERSION = {
    "version_id": "00000000-0000-4000-8000-000000000000",
    "script": "old",
    "number": 1,
    "created_on": "2026-01-01T00:00:00Z",
    "etag": "e",
    "compatibility_date": "2026-01-01",
    "compatibility_flags": [],
    "bindings": [],
    "metadata": {"tags": []},
}


def test_a_directory_of_an_older_format(workerd: Path, tmp_path: Path) -> None:
    """What an earlier local-edge kept is served, and can be changed."""
    code = b"export default { fetch() { return new Response('old') } };"
    digest = hashlib.sha256(code).hexdigest()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / digest).write_bytes(code)
    module = {"name": "main.js", "kind": "esModule", "digest": digest, "size_bytes": len(code)}
    version, at = OLD_VERSION | {"modules": [module]}, OLD_VERSION["created_on"]
    shares = [{"version_id": version["version_id"], "percentage": 100}]
    with closing(sqlite3.connect(tmp_path / "account.sqlite")) as db:
        db.executescript(f"{MIGRATIONS[0]} pragma user_version = 1;")
        db.execute("insert into scripts values ('old', ?, ?, 1, 0, null)", (at, at))
        row = (version["version_id"], json.dumps(version), at)
        db.execute("insert into versions values (?, 'old', 1, ?, ?)", row)
        db.execute("insert into deployments values (1, 'd', 'old', ?, ?)", (at, json.dumps(shares)))
        db.commit()
    with LocalEdge(dir=tmp_path, workerd=workerd) as edge:
        account = EdgeAccount(edge)
        assert httpx.get(edge.worker_url("old")).text == "old"
        assert account.active("old")["versions"] == shares
        assert account.call("GET", "/workers/scripts/old/settings").result["tags"] == []
        assert account.upload("old").result
        assert account.deploy("old", {version["version_id"]: 100}).result
        account.http.close()


def test_a_directory_of_a_newer_format(workerd: Path, tmp_path: Path) -> None:
    """What a later local-edge kept is left alone."""
    with closing(sqlite3.connect(tmp_path / "account.sqlite")) as db:
        db.execute("pragma user_version = 99")
    with pytest.raises(LocalError, match="its format is 99"), LocalEdge(dir=tmp_path, workerd=workerd):
        pass


def test_a_port_taken_meanwhile(workerd: Path, tmp_path: Path) -> None:
    """A script whose port is taken when the account comes back is served on another one."""
    with LocalEdge(dir=tmp_path, workerd=workerd) as edge:
        account = EdgeAccount(edge)
        url = account.publish("moved")
        account.http.close()
    taken = socket.create_server(("127.0.0.1", int(url.rpartition(":")[2])))
    with taken, LocalEdge(dir=tmp_path, workerd=workerd) as edge:
        assert edge.worker_url("moved") != url
        assert httpx.get(edge.worker_url("moved")).status_code == 200


def _processes_of(run: str) -> list[str]:
    listed = subprocess.run(["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if run in line]


def test_nothing_outlives_a_kill(workerd: Path, tmp_path: Path) -> None:
    """After kill -9 of local-edge its workerd processes end too."""
    if not Path("/bin/ps").exists():
        pytest.skip("needs ps")
    command = [sys.executable, "-m", "local_edge.cli", "up", "--dir", str(tmp_path), "--json"]
    command += ["--port", "0", "--worker-port", "0", "--workerd", str(workerd)]
    with LocalEdge(dir=tmp_path, workerd=workerd) as edge:
        account = EdgeAccount(edge)
        account.publish("orphan")
        account.http.close()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        assert len(_processes_of(f"{tmp_path}/run")) == 2
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    deadline = time.monotonic() + 3
    while _processes_of(f"{tmp_path}/run"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
