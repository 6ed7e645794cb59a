"""What outlives what: addresses outlive redeploys, state outlives the process, no workerd outlives us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from edge_account import EdgeAccount, new_name

from local_edge.server import LocalEdge

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


def test_a_crashed_worker_comes_back(account: EdgeAccount) -> None:
    """When the process of a live version ends by itself it is started again behind the same address."""
    script = new_name("crash")
    url = account.publish(script, NUMBERED, bindings=number(1))
    time.sleep(1.1)
    served = account.edge.edge.runtime._served[script]
    assert served.live is not None
    os.kill(served.live.workerd.pid, signal.SIGKILL)
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
