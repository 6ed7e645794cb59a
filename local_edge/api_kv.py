"""The Workers KV part of the REST API: namespaces, values, keys, bulk."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.responses import Response
from starlette.routing import Route

from local_edge.envelope import RefusalError, answer, answer_page, read_json, read_number, read_object
from local_edge.kv import VALUE_BYTES_LIMIT, Pair, Pairs, read_expiry
from local_edge.scripts import new_id

if TYPE_CHECKING:
    from starlette.requests import Request

    from local_edge.store import Store

BULK_LIMIT = 10_000
BULK_GET_LIMIT = 100
TITLE_BYTES_LIMIT = 512
KEYS_LIMIT = 1000


class Namespaces:
    """The KV namespaces of the account."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> list[dict[str, Any]]:
        rows = self._store.db.execute("select namespace_id, title from namespaces order by title")
        return [{"id": row[0], "title": row[1], "supports_url_encoding": True} for row in rows]

    def has(self, namespace_id: str) -> bool:
        found = "select 1 from namespaces where namespace_id = ?"
        return self._store.db.execute(found, (namespace_id,)).fetchone() is not None

    def create(self, title: Any, *, namespace_id: str = "") -> dict[str, Any]:
        row = (namespace_id or new_id(), self._check_title(title))
        self._store.db.execute("insert into namespaces (namespace_id, title) values (?, ?)", row)
        return {"id": row[0], "title": title, "supports_url_encoding": True}

    def _check_title(self, title: Any, *, of: str = "") -> str:
        if not isinstance(title, str) or not title or len(title.encode()) > TITLE_BYTES_LIMIT:
            raise RefusalError(400, 10026, f"title must have 1 to {TITLE_BYTES_LIMIT} bytes")
        if any(namespace["title"] == title and namespace["id"] != of for namespace in self.all()):
            raise RefusalError(400, 10014, f"a namespace with the title {title!r} already exists")
        return title

    def rename(self, namespace_id: str, title: Any) -> None:
        title = self._check_title(title, of=namespace_id)
        self._store.db.execute("update namespaces set title = ? where namespace_id = ?", (title, namespace_id))

    def delete(self, namespace_id: str) -> None:
        self._store.db.execute("delete from namespaces where namespace_id = ?", (namespace_id,))


class KvApi:
    """Handlers for /accounts/{account}/storage/kv/namespaces."""

    def __init__(self, *, namespaces: Namespaces, pairs: Pairs) -> None:
        self._namespaces = namespaces
        self._pairs = pairs

    def routes(self) -> list[Route]:
        namespace = "/{namespace}"
        return [
            Route("/", self.list_namespaces, methods=["GET"]),
            Route("/", self.create_namespace, methods=["POST"]),
            Route(namespace, self.rename_namespace, methods=["PUT"]),
            Route(namespace, self.delete_namespace, methods=["DELETE"]),
            Route(f"{namespace}/values/{{key:path}}", self.get_value, methods=["GET"]),
            Route(f"{namespace}/values/{{key:path}}", self.put_value, methods=["PUT"]),
            Route(f"{namespace}/values/{{key:path}}", self.delete_value, methods=["DELETE"]),
            Route(f"{namespace}/metadata/{{key:path}}", self.get_metadata, methods=["GET"]),
            Route(f"{namespace}/keys", self.list_keys, methods=["GET"]),
            Route(f"{namespace}/bulk", self.put_bulk, methods=["PUT"]),
            Route(f"{namespace}/bulk/delete", self.delete_bulk, methods=["POST"]),
            Route(f"{namespace}/bulk/get", self.get_bulk, methods=["POST"]),
        ]

    def _namespace(self, request: Request) -> str:
        namespace_id = str(request.path_params["namespace"])
        if not self._namespaces.has(namespace_id):
            raise RefusalError(404, 10013, f"namespace {namespace_id} was not found")
        return namespace_id

    async def list_namespaces(self, request: Request) -> Response:
        order, direction = request.query_params.get("order", "title"), request.query_params.get("direction", "asc")
        if order not in {"id", "title"} or direction not in {"asc", "desc"}:
            raise RefusalError(400, 10026, "order is id or title, direction asc or desc")
        namespaces = sorted(self._namespaces.all(), key=lambda each: str(each[order]), reverse=direction == "desc")
        return answer_page(request, namespaces)

    async def create_namespace(self, request: Request) -> Response:
        return answer(self._namespaces.create((await read_object(request)).get("title")))

    async def rename_namespace(self, request: Request) -> Response:
        namespace_id = self._namespace(request)
        self._namespaces.rename(namespace_id, (await read_object(request)).get("title"))
        return answer(None)

    async def delete_namespace(self, request: Request) -> Response:
        namespace_id = self._namespace(request)
        self._pairs.clear(namespace_id)
        self._namespaces.delete(namespace_id)
        return answer(None)

    def _pair(self, request: Request) -> Pair:
        pair = self._pairs.get(self._namespace(request), request.path_params["key"])
        if pair is None:
            raise RefusalError(404, 10009, "get: 'key not found'")
        return pair

    async def get_value(self, request: Request) -> Response:
        pair = self._pair(request)
        headers = {} if pair.expires_at_s is None else {"expiration": str(pair.expires_at_s)}
        return Response(pair.value, headers=headers, media_type="application/octet-stream")

    async def get_metadata(self, request: Request) -> Response:
        pair = self._pair(request)
        return answer(None if pair.metadata is None else json.loads(pair.metadata))

    async def put_value(self, request: Request) -> Response:
        namespace_id = self._namespace(request)
        query = request.query_params
        expires_at_s = read_expiry(query.get("expiration"), query.get("expiration_ttl"))
        metadata = None
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with request.form(max_part_size=VALUE_BYTES_LIMIT + 1) as form:
                value, metadata = await _read_field(form.get("value")), await _read_field(form.get("metadata"))
            if value is None:
                raise RefusalError(400, 10026, "the form has no field 'value'")
        else:
            value = await request.body()
        text = None if metadata is None else metadata.decode()
        self._pairs.put(namespace_id, Pair(request.path_params["key"], value, text, expires_at_s))
        return answer(None)

    async def delete_value(self, request: Request) -> Response:
        self._pairs.delete(self._namespace(request), request.path_params["key"])
        return answer(None)

    async def list_keys(self, request: Request) -> Response:
        namespace_id = self._namespace(request)
        limit = read_number(request, "limit", KEYS_LIMIT, low=10, high=KEYS_LIMIT)
        query = request.query_params
        keys, cursor = self._pairs.list_keys(
            namespace_id, prefix=query.get("prefix", ""), limit=limit, cursor=query.get("cursor", "")
        )
        for key in keys:
            if "metadata" in key:
                key["metadata"] = json.loads(key["metadata"])
        return answer(keys, result_info={"count": len(keys), "cursor": cursor})

    async def put_bulk(self, request: Request) -> Response:
        namespace_id = self._namespace(request)
        pairs = [_read_pair(item) for item in await _read_list(request, BULK_LIMIT)]
        return _do_each([(pair.key, partial(self._pairs.put, namespace_id, pair)) for pair in pairs])

    async def delete_bulk(self, request: Request) -> Response:
        namespace_id = self._namespace(request)
        keys = [str(key) for key in await _read_list(request, BULK_LIMIT)]
        return _do_each([(key, partial(self._pairs.delete, namespace_id, key)) for key in keys])

    async def get_bulk(self, request: Request) -> Response:
        namespace_id = self._namespace(request)
        body = await read_object(request)
        return answer({"values": read_many(self._pairs, namespace_id, body, at_edge=False)})


def _do_each(writes: Sequence[tuple[str, Callable[[], None]]]) -> Response:
    """A bulk write's answer: it succeeds as a whole and names the keys that were refused."""
    failed = []
    for key, write in writes:
        try:
            write()
        except RefusalError:
            failed.append(key)
    return answer({"successful_key_count": len(writes) - len(failed), "unsuccessful_keys": failed})


def read_many(pairs: Pairs, namespace_id: str, body: dict[str, Any], *, at_edge: bool) -> dict[str, Any]:
    """The values of a bulk get, null where there is none; shared with the binding, which asks in the same words."""
    keys = body.get("keys")
    if not isinstance(keys, list) or not keys or len(keys) > BULK_GET_LIMIT:
        raise RefusalError(400, 10026, f"keys must name 1 to {BULK_GET_LIMIT} keys")
    values: dict[str, Any] = {}
    for key in keys:
        pair = (pairs.get_at_edge if at_edge else pairs.get)(namespace_id, str(key))
        value: Any = None
        if pair is not None:
            text = pair.value.decode("utf-8", "replace")
            value = json.loads(text) if body.get("type") == "json" else text
            if body.get("withMetadata"):
                value = {"value": value, "metadata": json.loads(pair.metadata) if pair.metadata else None}
        values[str(key)] = value
    return values


async def _read_field(value: UploadFile | str | None) -> bytes | None:
    if isinstance(value, UploadFile):
        return await value.read()
    return None if value is None else value.encode()


async def _read_list(request: Request, most: int) -> list[Any]:
    items = await read_json(request)
    if not isinstance(items, list) or not 1 <= len(items) <= most:
        raise RefusalError(400, 10026, f"the request body must be a list of 1 to {most} items")
    return items


def _read_pair(item: Any) -> Pair:
    if not isinstance(item, dict) or not isinstance(item.get("key"), str) or not isinstance(item.get("value"), str):
        raise RefusalError(400, 10026, "a pair is {key, value, base64?, expiration?, expiration_ttl?, metadata?}")
    value = item["value"].encode()
    if item.get("base64"):
        try:
            value = base64.b64decode(value, validate=True)
        except binascii.Error:
            raise RefusalError(400, 10026, f"the value of {item['key']!r} is not base64") from None
    metadata = json.dumps(item["metadata"]) if item.get("metadata") is not None else None
    return Pair(item["key"], value, metadata, read_expiry(item.get("expiration"), item.get("expiration_ttl")))
