"""An HTTP client that keeps connections busy from one thread, and keeps every answer with its times."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer; times are epoch seconds."""

    number: int
    sent_at: float
    answered_at: float
    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


class _Connection:
    """One connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parts: list[bytes] = []
        self._missing = -1
        self._number = 0
        self._sent_at = 0.0

    def send(self, number: int, body: bytes) -> None:
        head = (
            "POST /v1/flags:resolve HTTP/1.1\r\nhost: worker\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._parts, self._missing, self._number, self._sent_at = [], -1, number, time.time()
        self.socket.sendall(head.encode() + body)

    def read(self) -> Exchange | None:
        """Take what has arrived; the exchange once it is whole."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionError("the server closed a connection")
        self._parts.append(data)
        if self._missing >= 0:
            self._missing -= len(data)
        else:
            head, end, body = b"".join(self._parts).partition(b"\r\n\r\n")
            if end:
                self._missing = _length(head) - len(body)
        if self._missing != 0:
            return None
        head, _, body = b"".join(self._parts).partition(b"\r\n\r\n")
        return Exchange(self._number, self._sent_at, time.time(), head, body)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"an answer without a length: {head!r}")


class Client:
    """Connections to one server; `resolve` keeps all of them busy."""

    def __init__(self, port: int, connections: int = 8) -> None:
        self._selector = selectors.DefaultSelector()
        self._connections = [_Connection(port) for _ in range(connections)]
        for connection in self._connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        for connection in self._connections:
            connection.socket.close()

    def resolve(self, bodies: Sequence[str]) -> list[Exchange]:
        """Send all bodies; the exchanges in the order of the bodies. Raises for any status but 200."""
        waiting = iter(enumerate(body.encode() for body in bodies))
        for connection in self._connections:
            _send_next(connection, waiting)
        done: list[Exchange] = []
        while len(done) < len(bodies):
            for key, _ in self._selector.select():
                exchange = key.data.read()
                if exchange is not None:
                    _send_next(key.data, waiting)
                    done.append(exchange)
        failed = next((exchange for exchange in done if exchange.status != 200), None)
        if failed is not None:
            raise ValueError(f"answered {failed.status}: {failed.body[:300]!r}")
        return sorted(done, key=lambda exchange: exchange.number)


def _send_next(connection: _Connection, waiting: Iterator[tuple[int, bytes]]) -> None:
    numbered = next(waiting, None)
    if numbered is not None:
        connection.send(*numbered)
