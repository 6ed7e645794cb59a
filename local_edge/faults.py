"""Faults on demand, and the log of what was asked: tests switch both over HTTP.

    POST   /local/faults    [{"match": "POST .*/messages/pull", "kind": "status", "status": 429, "retry_after": 1}, …]
    DELETE /local/faults    no more faults
    GET    /local/requests  [{"method", "path", "status"}, …] of API, CDN and binding requests, oldest first
    DELETE /local/requests  forget them

`match` is a regular expression over "METHOD /path" from its beginning; a binding's requests have the path
/bindings/queue/<name>/message, /bindings/kv/<namespace id>/<key>. Without it every call of the REST API matches. A
fault strikes `times` requests (1) from the `nth` (1) matching one on, counted from now, then is gone: {"nth": 4,
"kind": "reset"} cuts the fourth API call from now. A request is struck once; it counts for all faults that it matches.
Kinds: status (an error with `status`, `code`, `retry_after` in seconds or as any text), timeout (no answer), reset
(the connection is cut before an answer), html (`status` with a page instead of JSON), success_false (a 200 that says
no), truncate (half of the true answer), lost (done, but the connection is cut before the answer), short (a pull
brings half of what was asked for).
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, Response

from local_edge.capnp import BINDING_HEADER
from local_edge.envelope import RefusalError, answer, failure_body, json_response, read_json

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

KINDS = frozenset({"status", "timeout", "reset", "html", "success_false", "truncate", "lost", "short"})
WATCHED = ("/client/v4/", "/cdn/", "/bindings/")
ANY_API_CALL = r"[A-Z]+ /client/v4/"
REMEMBERED_REQUESTS = 20_000
TOO_MANY = 429
CODES = {401: 10000, 403: 10000, TOO_MANY: 971}
INTERNAL_CODE = 10013
QUEUE_OVERLOADED_CODE = 10250
TIMEOUT_S = 3600.0


@dataclass(slots=True)
class Fault:
    """A fault, how many matching requests it waits for, and how many it still strikes."""

    match: re.Pattern[str]
    kind: str
    nth: int = 1
    times: int = 1
    status: int = 500
    code: int = 0
    retry_after: str = ""


class Faults:
    """ASGI middleware: logs what passes, and answers in its own way where a fault is set."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._faults: list[Fault] = []
        self._log: deque[dict[str, Any]] = deque(maxlen=REMEMBERED_REQUESTS)

    async def set_faults(self, request: Request) -> Response:
        items = await read_json(request)
        if not isinstance(items, list):
            raise RefusalError(400, 10026, "faults are a list")
        self._faults += [_read_fault(item) for item in items]
        return answer(None)

    async def clear_faults(self, _request: Request) -> Response:
        self._faults.clear()
        return answer(None)

    async def list_requests(self, _request: Request) -> Response:
        return json_response(list(self._log))

    async def clear_requests(self, _request: Request) -> Response:
        self._log.clear()
        return answer(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _watched_path(scope)
        if path is None:
            await self._app(scope, receive, send)
            return
        entry = {"method": scope["method"], "path": path, "status": 0}
        self._log.append(entry)

        async def send_and_log(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            await send(message)

        fault = self._take(f"{scope['method']} {path}")
        if fault is None:
            await self._app(scope, receive, send_and_log)
        else:
            await self._strike(fault, scope, receive, send_and_log, _Connection(send))

    def _take(self, request_line: str) -> Fault | None:
        taken = None
        for fault in [fault for fault in self._faults if fault.match.match(request_line)]:
            fault.nth -= 1
            if fault.nth <= 0 and taken is None:
                taken = fault
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
        return taken

    async def _strike(self, fault: Fault, scope: Scope, receive: Receive, send: Send, connection: _Connection) -> None:
        if fault.kind == "timeout":
            await _wait_for_disconnect(receive)
        elif fault.kind == "reset":
            connection.cut()
        elif fault.kind == "lost":
            await self._app(scope, receive, _swallow)
            connection.cut()
        elif fault.kind == "truncate":
            await self._truncate(scope, receive, send, connection)
        elif fault.kind == "short":
            await self._app({**scope, "local_edge.short": True}, receive, send)
        else:
            await _read_all(receive)
            await _faulty_response(fault, scope)(scope, receive, send)

    async def _truncate(self, scope: Scope, receive: Receive, send: Send, connection: _Connection) -> None:
        """The true headers, half of the body, then nothing."""

        async def send_half(message: Message) -> None:
            if message["type"] == "http.response.body" and (body := message.get("body")):
                await send({**message, "body": body[: len(body) // 2], "more_body": True})
                await asyncio.sleep(0.05)
                connection.cut()
            else:
                await send(message)

        await self._app(scope, receive, send_half)


class _Connection:
    """The TCP connection below a request: uvicorn's `send` is a method of the object that holds its transport."""

    def __init__(self, send: Send) -> None:
        self._transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]

    def cut(self) -> None:
        raw = self._transport.get_extra_info("socket")
        if raw is not None:  # linger 0: the peer gets a reset, not an orderly end
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _watched_path(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == BINDING_HEADER.encode():
            return f"/bindings/{value.decode()}{scope['path']}"
    path = str(scope["path"])
    return path if path.startswith(WATCHED) else None


def _read_fault(item: Any) -> Fault:
    kinds: dict[str, type | tuple[type, ...]] = {
        "match": str, "kind": str, "nth": int, "times": int, "status": int, "code": int, "retry_after": (int, str),
    }  # fmt: skip
    if not isinstance(item, dict) or not item.keys() <= kinds.keys() or item.get("kind") not in KINDS:
        raise RefusalError(400, 10026, f"a fault has the fields {', '.join(kinds)} and a known kind")
    for name, value in item.items():
        if not isinstance(value, kinds[name]):
            raise RefusalError(400, 10026, f"{name} has a wrong type: {value!r}")
    try:
        match = re.compile(item.get("match", ANY_API_CALL))
    except re.error as exc:
        raise RefusalError(400, 10026, f"match is not a regular expression: {exc}") from exc
    return Fault(**{**item, "match": match, "retry_after": str(item.get("retry_after", ""))})


def _faulty_response(fault: Fault, scope: Scope) -> Response:
    headers = {"retry-after": fault.retry_after} if fault.retry_after else {}
    code = fault.code or CODES.get(fault.status, INTERNAL_CODE)
    if fault.kind == "html":
        return HTMLResponse("<html><body>cloudflare</body></html>", fault.status, headers)
    if fault.kind == "success_false":
        return Response(failure_body(code, "injected fault"), 200, media_type="application/json")
    if (_watched_path(scope) or "").startswith("/bindings/queue/"):
        headers |= {"cf-queues-error-cause": "Queue is overloaded"}
        headers |= {"cf-queues-error-code": str(fault.code or QUEUE_OVERLOADED_CODE)}
    return Response(failure_body(code, "injected fault"), fault.status, headers, "application/json")


async def _read_all(receive: Receive) -> None:
    """Take the request's body, so that its sender is not cut off while it writes."""
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return


async def _wait_for_disconnect(receive: Receive) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while (await receive())["type"] != "http.disconnect":
            pass


async def _swallow(message: Message) -> None:
    pass
