"""The commands as an operator sees them: what is printed where, and how they exit."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_queue import QUEUE_ID, FakeQueue
from messages import body, decided, no_match, request

from log_consumer.cli import main

ACCOUNT = "0123456789abcdef0123456789abcdef"


class Handler(BaseHTTPRequestHandler):
    """The endpoints of Cloudflare that the consumer calls, in front of the fake queue."""

    queue: FakeQueue

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/accounts":
            self._answer([{"id": ACCOUNT, "name": "test"}])
        elif path == f"/accounts/{ACCOUNT}/queues":
            self._answer([{"queue_id": QUEUE_ID, "queue_name": self.queue.name}])

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/messages/pull"):
            self._send(self.queue.pull_messages(QUEUE_ID, **asked))
        else:
            self._answer(self.queue.ack_messages(QUEUE_ID, acks=[each["lease_id"] for each in asked["acks"]]))

    def _answer(self, result: Any) -> None:
        page = {"page": 1, "per_page": 50, "count": 1, "total_count": 1, "total_pages": 1}
        answer = {"success": True, "errors": [], "messages": [], "result": result, "result_info": page}
        self._send(json.dumps(answer))

    def _send(self, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Stay silent."""


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeQueue]:
    """A queue behind HTTP, and an environment that points to it."""
    fake = FakeQueue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"queue": fake}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in ("CLOUDFLARE_ACCOUNT_ID", "WORKER_NAME_PREFIX", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "token")
    monkeypatch.setenv("CLOUDFLARE_API_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("DATABASE", str(tmp_path / "exposures.duckdb"))
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def test_drain_then_sql(queue: FakeQueue, capsys: pytest.CaptureFixture[str]) -> None:
    """The flow of the demo: drain the queue, ask who saw what."""
    queue.send(body(request(decided(), no_match())), "poison")
    assert main(["drain"]) == 0
    out = capsys.readouterr().out
    assert "1 messages loaded into" in out
    assert ": 2 exposures, 0 fall-throughs, 2 resolve counts" in out
    assert "1 messages rejected" in out
    assert main(["sql", "select flag, reason from exposures order by 1", "--format", "csv"]) == 0
    assert capsys.readouterr().out == "flag,reason\nflags/a,MATCH\nflags/b,NO_SEGMENT_MATCH\n"
    assert queue.messages == []


def test_the_summary_has_a_machine_form(queue: FakeQueue, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints one object with the counts, and logs go elsewhere."""
    queue.send(body())
    assert main(["drain", "--json"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert (summary["loaded_count"], summary["exposures_rows"], summary["rejected_count"]) == (1, 1, 0)
    assert json.loads(printed.err.splitlines()[-1])["event"] == "job.finished"


def test_sigterm_ends_a_drain_well(
    queue: FakeQueue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was pulled is loaded and acked, the rest stays in the queue, and the exit is 0."""
    queue.send(*(body(seq=seq) for seq in range(100)))
    monkeypatch.setenv("PULL_BATCH_SIZE", "10")
    monkeypatch.setenv("MAX_CONCURRENT_PULLS", "1")
    before = signal.getsignal(signal.SIGTERM)
    pull = queue.pull_messages

    def pull_and_terminate(*arguments: Any, **options: Any) -> str:
        if queue.pull_count == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return pull(*arguments, **options)

    monkeypatch.setattr(queue, "pull_messages", pull_and_terminate)
    assert main(["drain", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert 30 <= summary["loaded_count"] < 100
    assert len(queue.acked) == summary["loaded_count"] == 100 - len(queue.messages)
    assert signal.getsignal(signal.SIGTERM) is before


def test_wrong_settings_are_named_together_and_nothing_is_touched(
    queue: FakeQueue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 2, every problem in one line, no call made and no file."""
    wrong = {
        "CLOUDFLARE_API_TOKEN": "",
        "CLOUDFLARE_API_BASE_URL": "ftp://secret",
        "DATABASE": "ducklake:postgres:password=HUNTER2",
        "LOG_LEVEL": "loud",
        "PULL_BATCH_SIZE": "101",
        "MAX_CONCURRENT_PULLS": "0",
        "BATCH_MAX_BYTES": "16MB",
        "BATCH_MAX_WAIT_MS": "-1",
        "VISIBILITY_TIMEOUT_MS": "soon",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    assert main(["drain"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: wrong settings: ")
    assert all(name in line for name in wrong)
    assert "HUNTER2" not in line
    assert queue.pull_count == 0


def test_a_prefix_names_the_queue(
    queue: FakeQueue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """WORKER_NAME_PREFIX stands before the queue's name; a queue that is not there is one error line, exit 1."""
    monkeypatch.setenv("WORKER_NAME_PREFIX", "shop")
    assert main(["drain"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: there is no queue shop-flag-logs-queue. `sync-job run` makes it"
    queue.name = "shop-flag-logs-queue"
    assert main(["drain"]) == 0


def test_sql_needs_no_token_but_a_database(
    queue: FakeQueue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong SQL and a missing database are one error line and exit 1."""
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    assert main(["sql", "select 1"]) == 1
    assert "`log-consumer drain` makes it" in capsys.readouterr().err
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "token")
    queue.send(body())
    assert main(["drain"]) == 0
    capsys.readouterr()
    assert main(["sql", "select nonsense"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("error: Binder Error: ")
