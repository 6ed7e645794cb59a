"""V8's inspector, as far as it tells how much memory an isolate holds.

Source: the DevTools protocol over a WebSocket (RFC 6455), of which a client needs little when nobody else speaks.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Self

TIMEOUT_S = 60.0
_TEXT_FINAL = 0x81
_MASKED = 0x80


@dataclass(frozen=True, slots=True)
class Heap:
    """Bytes of an isolate: `used` is the heap's live objects, `buffers` what array buffers hold outside of it."""

    used: int
    buffers: int

    @property
    def total(self) -> int:
        return self.used + self.buffers


class Inspector:
    """A connection to the isolate of the service `main`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._file: BinaryIO = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /main HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode()
        )
        status = self._file.readline()
        if b" 101 " not in status:
            raise ConnectionError(f"the inspector answered {status!r}")
        while self._file.readline() != b"\r\n":
            pass
        self._last_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def read_heap(self) -> Heap:
        """What is held now. (`HeapProfiler.collectGarbage` hangs in workerd: collect before.)"""
        usage = self.call("Runtime.getHeapUsage")
        return Heap(int(usage["usedSize"]), int(usage["backingStorageSize"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result. Events that come meanwhile are passed over."""
        self._last_id += 1
        self._send(json.dumps({"id": self._last_id, "method": method, "params": params}).encode())
        while True:
            message: dict[str, Any] = json.loads(self._receive())
            if message.get("id") == self._last_id:
                if "error" in message:
                    raise ConnectionError(f"{method}: {message['error']}")
                result: dict[str, Any] = message.get("result", {})
                return result

    def _send(self, text: bytes) -> None:
        """One frame, masked with zeros, as a client has to mask."""
        head = struct.pack(">BBH", _TEXT_FINAL, _MASKED | 126, len(text))
        self._socket.sendall(head + b"\0\0\0\0" + text)

    def _receive(self) -> bytes:
        """One message, of however many frames."""
        text = b""
        while True:
            first, second = self._file.read(2)
            length = second & 127
            if length == 126:
                (length,) = struct.unpack(">H", self._file.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self._file.read(8))
            text += self._file.read(length)
            if first & 0x80:
                return text
