"""What workerd's queue and KV bindings and its Cache API talk to (source: src/workerd/api of workerd).

Plain HTTP; the header that our configuration injects names the binding: `queue/<name>`, `kv/<namespace id>` or
`cache/<script>`. A queue send must be answered with 200 and a JSON body; a refusal speaks through the CF-Queues-Error
headers.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from local_edge.api_kv import read_many
from local_edge.capnp import BINDING_HEADER
from local_edge.envelope import RefusalError, json_response
from local_edge.kv import Pair, read_expiry
from local_edge.messages import Message

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from local_edge.api_kv import Namespaces
    from local_edge.cache import Cache
    from local_edge.kv import Pairs
    from local_edge.messages import Messages
    from local_edge.queues import Queue, Queues

SHORTEST_CACHE_TTL_S = 30


class Backend:
    """An ASGI application for requests that carry the binding header."""

    def __init__(
        self, *, queues: Queues, messages: Messages, namespaces: Namespaces, pairs: Pairs, cache: Cache
    ) -> None:
        self._queues = queues
        self._messages = messages
        self._namespaces = namespaces
        self._pairs = pairs
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        kind, _, resource = request.headers[BINDING_HEADER].partition("/")
        try:
            if kind == "queue":
                response = await self._answer_queue(request, resource)
            elif kind == "cache":
                response = await self._cache.answer(request, resource)
            else:
                response = await self._answer_kv(request, resource)
        except RefusalError as exc:
            response = queue_refusal(exc) if kind == "queue" else Response(exc.message, exc.status)
        await response(scope, receive, send)

    async def _answer_queue(self, request: Request, name: str) -> Response:
        queue = self._queues.find(name)
        if queue is None:
            raise RefusalError(404, 10104, "Queue not found")
        backlog = self._messages.backlog(queue.queue_no)
        if request.method == "GET":
            oldest = self._messages.oldest_at_ms(queue.queue_no)
            numbers = {"backlogCount": backlog.count, "backlogBytes": backlog.size_bytes}
            return json_response(numbers | ({"oldestMessageTimestamp": oldest} if oldest else {}))
        await self._send(request, queue)
        metrics = {"backlogCount": backlog.count, "backlogBytes": backlog.size_bytes}
        return json_response({"metadata": {"metrics": metrics}})

    async def _send(self, request: Request, queue: Queue) -> None:
        body = await request.body()
        delay = request.headers.get("x-msg-delay-secs")
        delay_s = int(delay) if delay else queue.settings["delivery_delay"]
        if request.url.path.endswith("/batch"):
            messages = [_read_batched(item) for item in json.loads(body)["messages"]]
        else:
            messages = [Message(body, request.headers.get("x-msg-fmt", "v8"))]
        self._messages.send(queue.queue_no, messages, source="worker", default_delay_s=delay_s)

    async def _answer_kv(self, request: Request, namespace_id: str) -> Response:
        if not self._namespaces.has(namespace_id):
            raise RefusalError(400, 10013, "namespace was not found")
        raw_path = request.scope["raw_path"].decode()
        if request.method == "GET" or raw_path == "/bulk/get":
            await self._pairs.wait_for_edge()
        if request.method == "POST" and raw_path == "/bulk/get":
            body = await request.json()
            _check_cache_ttl(body.get("cacheTtl"))
            return json_response(read_many(self._pairs, namespace_id, body, at_edge=True))
        key = unquote(raw_path[1:])
        query = request.query_params
        if request.method == "GET" and not key:
            return self._list_keys(request, namespace_id)
        if request.method == "PUT":
            expires_at_s = read_expiry(query.get("expiration"), query.get("expiration_ttl"))
            metadata = request.headers.get("cf-kv-metadata")
            self._pairs.put(namespace_id, Pair(key, await request.body(), metadata, expires_at_s))
            return Response(status_code=200)
        if request.method == "DELETE":
            self._pairs.delete(namespace_id, key)
            return Response(status_code=200)
        _check_cache_ttl(query.get("cache_ttl"))
        pair = self._pairs.get_at_edge(namespace_id, key)
        if pair is None:
            return Response(status_code=404)
        return Response(pair.value, headers={"cf-kv-metadata": pair.metadata} if pair.metadata else {})

    def _list_keys(self, request: Request, namespace_id: str) -> Response:
        query = request.query_params
        limit = int(query.get("key_count_limit", "1000"))
        keys, cursor = self._pairs.list_keys(
            namespace_id, prefix=query.get("prefix", ""), limit=limit, cursor=query.get("cursor", "")
        )
        body: dict[str, Any] = {"keys": keys, "list_complete": not cursor}
        return json_response(body | ({"cursor": cursor} if cursor else {}))


def queue_refusal(exc: RefusalError) -> Response:
    headers = {"cf-queues-error-code": str(exc.code), "cf-queues-error-cause": exc.message}
    return Response(status_code=exc.status, headers=headers)


def _check_cache_ttl(value: Any) -> None:
    if value is not None and int(value) < SHORTEST_CACHE_TTL_S:
        raise RefusalError(400, 10026, f"Invalid cache_ttl of {value}. Cache TTL must be at least 30.")


def _read_batched(item: dict[str, Any]) -> Message:
    try:
        body = base64.b64decode(item["body"], validate=True)
    except (KeyError, binascii.Error):
        raise RefusalError(400, 10207, "a batched message has a base64 body") from None
    return Message(body, item.get("contentType", "v8"), item.get("delaySecs"))
