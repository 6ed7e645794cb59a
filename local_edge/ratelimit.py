"""The REST API's rate limit: so many requests a token in five minutes, then five minutes of 429 (off by default).

Source: Cloudflare API, rate limits: `Ratelimit` and `Ratelimit-Policy` on each answer, `Retry-After` on a 429. Pull
and ack of queues do not count.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_edge.envelope import refusal_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from local_edge.conditions import Conditions

EXEMPT = re.compile(r".*/queues/[^/]+/messages/(pull|ack)")
LIMITED_CODE = 971


@dataclass(slots=True)
class Window:
    """What one token used of its allowance; it starts anew at `ends_at`."""

    ends_at: float
    count: int = 0
    blocked: bool = False


class RateLimit:
    """ASGI middleware around the API."""

    def __init__(self, app: ASGIApp, conditions: Conditions, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._conditions = conditions
        self._clock = clock
        self._windows: dict[bytes, Window] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = self._conditions.rate_limit
        if not limit:
            self._windows.clear()
        if not limit or EXEMPT.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        window = self._count(dict(scope["headers"]).get(b"authorization", b""), limit)
        reset_s = max(1, math.ceil(window.ends_at - self._clock()))
        headers = {
            "ratelimit": f'"default";r={max(0, limit - window.count)};t={reset_s}',
            "ratelimit-policy": f'"default";q={limit};w={math.ceil(self._conditions.rate_limit_window_s)}',
        }
        if window.blocked:
            response = refusal_response(429, LIMITED_CODE, "Please wait and consider throttling your request speed")
            response.headers.update(headers | {"retry-after": str(reset_s)})
            await response(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in headers.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _count(self, token: bytes, limit: int) -> Window:
        at = self._clock()
        window = self._windows.get(token)
        if window is None or at >= window.ends_at:
            window = self._windows[token] = Window(at + self._conditions.rate_limit_window_s)
        window.count += 1
        if window.count > limit and not window.blocked:
            window.blocked = True
            window.ends_at = at + self._conditions.rate_limit_window_s
        return window
