"""Confidence's two log endpoints as a real HTTP server on loopback, with faults to order.

Source: the official Worker's queue consumer (paths, bodies, authorization).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from google.protobuf import json_format

from flagedge.wire.logs_pb2 import IngestFlagLogsRequest, WriteFlagLogsRequest

EDGE_PATH = "/v1/clientFlagLogs:write"
CLOUDFLARE_PATH = "/v1/flagLogs:ingest"


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def ingest(self) -> IngestFlagLogsRequest:
        return IngestFlagLogsRequest.FromString(self.body)

    @property
    def logs(self) -> WriteFlagLogsRequest:
        if self.path == CLOUDFLARE_PATH:
            return WriteFlagLogsRequest.FromString(self.ingest.batch)
        return json_format.Parse(self.body, WriteFlagLogsRequest())

    @property
    def units(self) -> set[str]:
        return {flag.targeting_key for assigned in self.logs.flag_assigned for flag in assigned.flags}


@dataclass(frozen=True)
class Answer:
    """What is answered; status 0 closes the connection without a word."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    text: str = "{}"
    delay_s: float = 0.0


OK = Answer()
NOTHING = Answer(status=0)


def answer(status: int, text: str = "{}", *, delay_s: float = 0.0, **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, text, delay_s)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients go away in the middle, and are killed: that is what is tested."""


class FakeConfidence:
    """Answers what `respond` says of a request, OK unless told otherwise, and remembers what came."""

    def __init__(self) -> None:
        self.respond: Callable[[Received], Answer] = lambda _: OK
        self.received: list[Received] = []
        self.taken: list[Received] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def edge_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{EDGE_PATH}"

    @property
    def cloudflare_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{CLOUDFLARE_PATH}"

    @property
    def taken_units(self) -> list[str]:
        """Targeting keys by body that was taken, so that what came twice stands twice."""
        return sorted(unit for received in self.taken for unit in received.units)

    def handle(self, received: Received) -> Answer:
        with self._lock:
            self.received.append(received)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answered = self.respond(received)
            time.sleep(answered.delay_s)
        finally:
            with self._lock:
                self._at_once -= 1
        if 200 <= answered.status < 300:
            with self._lock:
                self.taken.append(received)
        return answered

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        confidence = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answered = confidence.handle(Received(self.path, headers, body))
                if answered.status == 0:
                    self.close_connection = True
                    return
                text = answered.text.encode()
                self.send_response(answered.status)
                for name, value in {**answered.headers, "content-length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
