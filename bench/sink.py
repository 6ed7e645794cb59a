"""The queue behind the Worker's binding, in a process of its own: it takes messages, and gives them away once asked.

Source: the HTTP that workerd speaks to a queue's service (`POST /message`, `POST /batch`). Run as
`python -m bench.sink`: the first line of its output is its port; it ends when its input does.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx

TAKEN = b'{"metadata":{"metrics":{"backlogCount":0,"backlogBytes":0}}}'


class Sink:
    """The sink as its parent sees it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def take(self) -> list[str]:
        """The messages that came since the last time."""
        messages: list[str] = httpx.get(f"http://127.0.0.1:{self.port}/", timeout=60).raise_for_status().json()
        return messages


@contextmanager
def run_sink() -> Iterator[Sink]:
    command = [sys.executable, "-m", "bench.sink"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Sink(int(process.stdout.readline()))
        finally:
            process.stdin.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    messages: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.startswith("/batch"):
            self.messages.extend(base64.b64decode(item["body"]).decode() for item in json.loads(body)["messages"])
        else:
            self.messages.append(body.decode())
        self._answer(TAKEN)

    def do_GET(self) -> None:
        taken = self.messages[:]
        del self.messages[: len(taken)]
        self._answer(json.dumps(taken).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        print(server.server_port, flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
