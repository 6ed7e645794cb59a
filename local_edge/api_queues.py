"""The Queues part of the REST API: queues, consumers, and messages over HTTP pull."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from local_edge.envelope import RefusalError, answer, answer_page, read_object, to_json
from local_edge.queues import (
    BATCH_COUNT_LIMIT,
    DELAY_S_LIMIT,
    VISIBILITY_MS_LIMIT,
    Message,
    Messages,
    PullConsumer,
    metrics,
)
from local_edge.scripts import new_id
from local_edge.store import now_text

if TYPE_CHECKING:
    from starlette.requests import Request

    from local_edge.scripts import Scripts
    from local_edge.store import Store

QUEUE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DEFAULT_SETTINGS = {"delivery_delay": 0, "delivery_paused": False, "message_retention_period": 345_600}
PULL_SETTINGS = {
    "batch_size": (10, 1, 100),
    "visibility_timeout_ms": (30_000, 0, VISIBILITY_MS_LIMIT),
    "max_retries": (3, 0, 100),
    "retry_delay": (0, 0, DELAY_S_LIMIT),
}
WORKER_SETTINGS = {
    "batch_size": (10, 1, 100),
    "max_retries": (3, 0, 100),
    "max_wait_time_ms": (5_000, 0, 60_000),
    "retry_delay": (0, 0, DELAY_S_LIMIT),
}
SETTINGS_LIMITS = {"delivery_delay": (0, DELAY_S_LIMIT), "message_retention_period": (60, 1_209_600)}


@dataclass(frozen=True, slots=True)
class Queue:
    """A row of `queues`; `settings` as in the API."""

    queue_no: int
    queue_id: str
    queue_name: str
    created_on: str
    modified_on: str
    settings: dict[str, Any]


def _read_queue(row: tuple[int, str, str, str, str, str]) -> Queue:
    return Queue(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]))


def whole_number(value: Any, name: str, *, low: int, high: int, code: int = 10026) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise RefusalError(400, code, f"{name} must be a whole number")
    if not low <= value <= high:
        raise RefusalError(400, code, f"{name} must be from {low} to {high}")
    return int(value)


class Queues:
    """The queues of the account and their consumers."""

    def __init__(self, store: Store, messages: Messages) -> None:
        self._store = store
        self._messages = messages

    def all(self) -> list[Queue]:
        rows = self._store.db.execute("select * from queues order by queue_no")
        return [_read_queue(row) for row in rows]

    def find(self, name: str) -> Queue | None:
        row = self._store.db.execute("select * from queues where queue_name = ?", (name,)).fetchone()
        return _read_queue(row) if row else None

    def get(self, queue_id: str) -> Queue:
        row = self._store.db.execute("select * from queues where queue_id = ?", (queue_id,)).fetchone()
        if row is None:
            raise RefusalError(404, 11000, f"Queue {queue_id} does not exist")
        return _read_queue(row)

    def create(self, name: Any, settings: dict[str, Any]) -> Queue:
        if not isinstance(name, str) or not QUEUE_NAME.fullmatch(name):
            raise RefusalError(400, 11003, "Queue name must be 1 to 63 lower case letters, digits and dashes")
        if self.find(name):
            raise RefusalError(409, 11009, f"Queue name {name!r} is already taken")
        at = now_text()
        row = (new_id(), name, at, at, json.dumps(DEFAULT_SETTINGS | settings))
        self._store.db.execute(
            "insert into queues (queue_id, queue_name, created_on, modified_on, settings) values (?, ?, ?, ?, ?)", row
        )
        return self.get(row[0])

    def set_settings(self, queue: Queue, settings: dict[str, Any]) -> None:
        change = "update queues set settings = ?, modified_on = ? where queue_id = ?"
        self._store.db.execute(change, (json.dumps(settings), now_text(), queue.queue_id))

    def delete(self, queue: Queue) -> None:
        self._messages.clear(queue.queue_no)
        self._store.db.execute("delete from consumers where queue_no = ?", (queue.queue_no,))
        self._store.db.execute("delete from queues where queue_no = ?", (queue.queue_no,))

    def consumers(self, queue: Queue) -> list[dict[str, Any]]:
        rows = self._store.db.execute("select body from consumers where queue_no = ?", (queue.queue_no,))
        return [json.loads(body) for (body,) in rows]

    def add_consumer(self, queue: Queue, body: dict[str, Any]) -> dict[str, Any]:
        if self.consumers(queue):
            raise RefusalError(400, 11004, f"Queue {queue.queue_name!r} already has a consumer")
        consumer = {"consumer_id": new_id(), "created_on": now_text(), "queue_name": queue.queue_name, **body}
        self.write_consumer(queue, consumer)
        return consumer

    def write_consumer(self, queue: Queue, consumer: dict[str, Any]) -> None:
        row = (consumer["consumer_id"], queue.queue_no, json.dumps(consumer), consumer["created_on"])
        write = "insert or replace into consumers (consumer_id, queue_no, body, created_on) values (?, ?, ?, ?)"
        self._store.db.execute(write, row)

    def delete_consumer(self, consumer_id: str) -> None:
        self._store.db.execute("delete from consumers where consumer_id = ?", (consumer_id,))

    def pull_consumer(self, queue: Queue) -> PullConsumer | None:
        for consumer in self.consumers(queue):
            if consumer["type"] == "http_pull":
                settings = consumer["settings"]
                dead = self.find(consumer["dead_letter_queue"]) if consumer["dead_letter_queue"] else None
                return PullConsumer(settings["max_retries"], settings["retry_delay"], dead.queue_no if dead else None)
        return None

    def bury_for(self, queue: Queue) -> None:
        """Bring in what other queues owe to this one as their dead letter queue."""
        for other in self.all():
            consumer = self.pull_consumer(other)
            if consumer is not None and consumer.dead_letter_no == queue.queue_no:
                self._messages.bury_spent(other.queue_no, consumer)


class QueuesApi:
    """Handlers for /accounts/{account}/queues."""

    def __init__(self, *, queues: Queues, messages: Messages, scripts: Scripts) -> None:
        self._queues = queues
        self._messages = messages
        self._scripts = scripts

    def routes(self) -> list[Route]:
        queue = "/{queue_id}"
        return [
            Route("/", self.list_queues, methods=["GET"]),
            Route("/", self.create_queue, methods=["POST"]),
            Route(queue, self.get_queue, methods=["GET"]),
            Route(queue, self.change_queue, methods=["PATCH"]),
            Route(queue, self.delete_queue, methods=["DELETE"]),
            Route(f"{queue}/consumers", self.list_consumers, methods=["GET"]),
            Route(f"{queue}/consumers", self.create_consumer, methods=["POST"]),
            Route(f"{queue}/consumers/{{consumer_id}}", self.change_consumer, methods=["PUT"]),
            Route(f"{queue}/consumers/{{consumer_id}}", self.delete_consumer, methods=["DELETE"]),
            Route(f"{queue}/metrics", self.get_metrics, methods=["GET"]),
            Route(f"{queue}/messages", self.push, methods=["POST"]),
            Route(f"{queue}/messages/batch", self.push_batch, methods=["POST"]),
            Route(f"{queue}/messages/pull", self.pull, methods=["POST"]),
            Route(f"{queue}/messages/ack", self.ack, methods=["POST"]),
        ]

    def _queue(self, request: Request) -> Queue:
        return self._queues.get(request.path_params["queue_id"])

    def _describe(self, queue: Queue) -> dict[str, Any]:
        consumers = self._queues.consumers(queue)
        producers = []
        for name in self._scripts.names():
            bindings = self._scripts.live(name).bindings
            if any(b["type"] == "queue" and b["queue_name"] == queue.queue_name for b in bindings):
                producers.append({"type": "worker", "script": name})
        return {
            "queue_id": queue.queue_id,
            "queue_name": queue.queue_name,
            "created_on": queue.created_on,
            "modified_on": queue.modified_on,
            "settings": queue.settings,
            "producers": producers,
            "producers_total_count": len(producers),
            "consumers": consumers,
            "consumers_total_count": len(consumers),
        }

    async def list_queues(self, request: Request) -> Response:
        wanted = request.query_params.getlist("name")
        found = [self._describe(queue) for queue in self._queues.all() if not wanted or queue.queue_name in wanted]
        return answer_page(request, found, default_per_page=100)

    async def create_queue(self, request: Request) -> Response:
        body = await read_object(request)
        settings = _read_settings(body.get("settings") or {})
        return answer(self._describe(self._queues.create(body.get("queue_name"), settings)))

    async def get_queue(self, request: Request) -> Response:
        return answer(self._describe(self._queue(request)))

    async def change_queue(self, request: Request) -> Response:
        queue = self._queue(request)
        body = await read_object(request)
        if body.get("queue_name", queue.queue_name) != queue.queue_name:
            raise RefusalError(400, 11003, "a queue cannot be renamed")
        self._queues.set_settings(queue, queue.settings | _read_settings(body.get("settings") or {}))
        return answer(self._describe(self._queue(request)))

    async def delete_queue(self, request: Request) -> Response:
        queue = self._queue(request)
        users = self._describe(queue)["producers"]
        if users:
            raise RefusalError(400, 11005, f"Queue {queue.queue_name!r} is still bound by {users[0]['script']!r}")
        self._queues.delete(queue)
        return answer(None)

    async def list_consumers(self, request: Request) -> Response:
        return answer(self._queues.consumers(self._queue(request)))

    async def create_consumer(self, request: Request) -> Response:
        queue = self._queue(request)
        body = await read_object(request)
        return answer(self._queues.add_consumer(queue, self._read_consumer(body)))

    def _consumer(self, request: Request, queue: Queue) -> dict[str, Any]:
        for consumer in self._queues.consumers(queue):
            if consumer["consumer_id"] == request.path_params["consumer_id"]:
                return consumer
        raise RefusalError(404, 11001, "the queue has no such consumer")

    async def change_consumer(self, request: Request) -> Response:
        queue = self._queue(request)
        consumer = self._consumer(request, queue) | self._read_consumer(await read_object(request))
        self._queues.write_consumer(queue, consumer)
        return answer(consumer)

    async def delete_consumer(self, request: Request) -> Response:
        consumer = self._consumer(request, self._queue(request))
        self._queues.delete_consumer(consumer["consumer_id"])
        return answer(None)

    def _read_consumer(self, body: dict[str, Any]) -> dict[str, Any]:
        kind = body.get("type")
        if kind not in {"http_pull", "worker"}:
            raise RefusalError(400, 100127, "a consumer's type is http_pull or worker")
        dead_letter_queue = body.get("dead_letter_queue") or ""
        if dead_letter_queue and self._queues.find(dead_letter_queue) is None:
            raise RefusalError(400, 11000, f"dead letter queue {dead_letter_queue!r} does not exist")
        if kind == "worker" and self._scripts.find(body.get("script_name") or "") is None:
            raise RefusalError(400, 10007, f"Worker {body.get('script_name')!r} does not exist")
        sent = body.get("settings") or {}
        limits = PULL_SETTINGS if kind == "http_pull" else WORKER_SETTINGS
        settings = {
            name: whole_number(sent.get(name, default), name, low=low, high=high, code=100127)
            for name, (default, low, high) in limits.items()
        }
        consumer = {"type": kind, "dead_letter_queue": dead_letter_queue, "settings": settings}
        return consumer if kind == "http_pull" else consumer | {"script_name": body["script_name"]}

    def _metrics(self, queue: Queue) -> dict[str, Any]:
        no = queue.queue_no
        return metrics(self._messages.backlog(no), self._messages.oldest_at_ms(no))

    async def get_metrics(self, request: Request) -> Response:
        queue = self._queue(request)
        self._queues.bury_for(queue)
        return answer(self._metrics(queue))

    async def push(self, request: Request) -> Response:
        queue = self._queue(request)
        return self._send(queue, [_read_message(await read_object(request))], None)

    async def push_batch(self, request: Request) -> Response:
        queue = self._queue(request)
        body = await read_object(request)
        sent = body.get("messages")
        if not isinstance(sent, list) or not sent or not all(isinstance(item, dict) for item in sent):
            raise RefusalError(400, 10026, "messages must be a list of messages")
        return self._send(queue, [_read_message(item) for item in sent], body.get("delay_seconds"))

    def _send(self, queue: Queue, messages: list[Message], delay: Any) -> Response:
        default = queue.settings["delivery_delay"] if delay is None else delay
        delay_s = whole_number(default, "delay_seconds", low=0, high=DELAY_S_LIMIT, code=10202)
        self._messages.send(queue.queue_no, messages, source="api", default_delay_s=delay_s)
        return answer({"metadata": {"metrics": self._metrics(queue)}})

    async def pull(self, request: Request) -> Response:
        queue = self._queue(request)
        consumer = self._queues.pull_consumer(queue)
        if consumer is None:
            raise RefusalError(405, 10405, "HTTP pull is not enabled on this queue: add an http_pull consumer")
        body = await read_object(request) if await request.body() else {}
        limit = whole_number(body.get("batch_size", 5), "batch_size", low=1, high=BATCH_COUNT_LIMIT)
        visibility = body.get("visibility_timeout_ms", 30_000)
        visibility_ms = whole_number(visibility, "visibility_timeout_ms", low=0, high=VISIBILITY_MS_LIMIT)
        self._queues.bury_for(queue)
        if request.scope.get("local_edge.short") or queue.settings["delivery_paused"]:
            limit = 0 if queue.settings["delivery_paused"] else limit // 2
        delivery = self._messages.pull(
            queue.queue_no, consumer, limit=limit, visibility_ms=visibility_ms,
            retention_s=queue.settings["message_retention_period"],
        )  # fmt: skip
        numbers = to_json(metrics(delivery.backlog, delivery.oldest_at_ms)).decode()
        text = (
            '{"success":true,"errors":[],"messages":[],"result":{'
            f'"message_backlog_count":{delivery.backlog.count},"metadata":{{"metrics":{numbers}}},'
            f'"messages":[{",".join(delivery.fragments)}]}}}}'
        )
        return Response(text, media_type="application/json")

    async def ack(self, request: Request) -> Response:
        queue = self._queue(request)
        consumer = self._queues.pull_consumer(queue)
        if consumer is None:
            raise RefusalError(405, 10405, "HTTP pull is not enabled on this queue: add an http_pull consumer")
        body = await read_object(request)
        acks, retries = _read_leases(body, "acks"), _read_leases(body, "retries")
        if not 1 <= len(acks) + len(retries) <= BATCH_COUNT_LIMIT:
            raise RefusalError(400, 10026, f"acks and retries together name 1 to {BATCH_COUNT_LIMIT} leases")
        delays = [(lease, _read_delay(item)) for lease, item in retries]
        unknown = self._messages.ack(queue.queue_no, [lease for lease, _ in acks])
        acked = len(acks) - len(unknown)
        not_retried = self._messages.retry(queue.queue_no, consumer, delays)
        result: dict[str, Any] = {"ackCount": acked, "retryCount": len(retries) - len(not_retried)}
        if unknown or not_retried:
            result["warnings"] = dict.fromkeys([*unknown, *not_retried], "lease is unknown or was redelivered")
        return answer(result)


def _read_settings(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict) or not settings.keys() <= DEFAULT_SETTINGS.keys():
        raise RefusalError(400, 100128, f"queue settings are {', '.join(DEFAULT_SETTINGS)}")
    for name, (low, high) in SETTINGS_LIMITS.items():
        if name in settings:
            whole_number(settings[name], name, low=low, high=high, code=100128)
    if not isinstance(settings.get("delivery_paused", False), bool):
        raise RefusalError(400, 100128, "delivery_paused is a boolean")
    return settings


def _read_message(item: dict[str, Any]) -> Message:
    kind = item.get("content_type", "json")
    delay = item.get("delay_seconds")
    if "body" not in item or kind not in {"json", "text"} or (kind == "text" and not isinstance(item["body"], str)):
        raise RefusalError(400, 10207, "a message is {body, content_type: json or text, delay_seconds?}")
    body = item["body"].encode() if kind == "text" else to_json(item["body"])
    if delay is not None:
        delay = whole_number(delay, "delay_seconds", low=0, high=DELAY_S_LIMIT, code=10202)
    return Message(body, kind, delay)


def _read_leases(body: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    items = body.get(name) or []
    if not isinstance(items, list):
        raise RefusalError(400, 10026, f"{name} must be a list")
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("lease_id"), str):
            raise RefusalError(400, 10026, f"{name} holds objects with a lease_id")
    return [(item["lease_id"], item) for item in items]


def _read_delay(item: dict[str, Any]) -> int | None:
    delay = item.get("delay_seconds")
    return None if delay is None else whole_number(delay, "delay_seconds", low=0, high=DELAY_S_LIMIT)
