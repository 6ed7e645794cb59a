"""Queues and their consumers over the REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from local_edge.envelope import RefusalError, answer, answer_page, read_object, whole_number
from local_edge.messages import DELAY_S_LIMIT, VISIBILITY_MS_LIMIT
from local_edge.queues import DEFAULT_SETTINGS, Queue, Queues

if TYPE_CHECKING:
    from starlette.requests import Request

    from local_edge.scripts import Scripts

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
CONCURRENCY_LIMIT = 250
CONSUMER_KEYS = frozenset({"type", "dead_letter_queue", "settings", "script_name"})
SETTINGS_LIMITS = {"delivery_delay": (0, DELAY_S_LIMIT), "message_retention_period": (60, 1_209_600)}


class QueuesApi:
    """Handlers for /accounts/{account}/queues."""

    def __init__(self, *, queues: Queues, scripts: Scripts) -> None:
        self._queues = queues
        self._scripts = scripts

    def routes(self) -> list[Route]:
        queue = "/{queue_id}"
        return [
            Route("/", self.list_queues, methods=["GET"]),
            Route("/", self.create_queue, methods=["POST"]),
            Route(queue, self.get_queue, methods=["GET"]),
            Route(queue, self.change_queue, methods=["PATCH"]),
            Route(queue, self.replace_queue, methods=["PUT"]),
            Route(queue, self.delete_queue, methods=["DELETE"]),
            Route(f"{queue}/consumers", self.list_consumers, methods=["GET"]),
            Route(f"{queue}/consumers", self.create_consumer, methods=["POST"]),
            Route(f"{queue}/consumers/{{consumer_id}}", self.get_consumer, methods=["GET"]),
            Route(f"{queue}/consumers/{{consumer_id}}", self.change_consumer, methods=["PUT"]),
            Route(f"{queue}/consumers/{{consumer_id}}", self.delete_consumer, methods=["DELETE"]),
        ]

    def _queue(self, request: Request) -> Queue:
        return self._queues.get(request.path_params["queue_id"])

    def _describe(self, queue: Queue) -> dict[str, Any]:
        consumers = self._queues.consumers(queue)
        producers = []
        for name in self._scripts.names():
            bindings = [binding for version in self._scripts.deployed(name) for binding in version.bindings]
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
        """What is not named stays."""
        return await self._set_settings(request, self._queue(request).settings)

    async def replace_queue(self, request: Request) -> Response:
        """What is not named goes back to its default."""
        return await self._set_settings(request, DEFAULT_SETTINGS)

    async def _set_settings(self, request: Request, kept: dict[str, Any]) -> Response:
        queue = self._queue(request)
        body = await read_object(request)
        if body.get("queue_name", queue.queue_name) != queue.queue_name:
            raise RefusalError(400, 11003, "a queue cannot be renamed")
        self._queues.set_settings(queue, kept | _read_settings(body.get("settings") or {}))
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
        consumer = self._read_consumer(await read_object(request), queue)
        return answer(self._queues.add_consumer(queue, consumer))

    async def get_consumer(self, request: Request) -> Response:
        return answer(self._consumer(request, self._queue(request)))

    def _consumer(self, request: Request, queue: Queue) -> dict[str, Any]:
        for consumer in self._queues.consumers(queue):
            if consumer["consumer_id"] == request.path_params["consumer_id"]:
                return consumer
        raise RefusalError(404, 7003, "the queue has no such consumer")

    async def change_consumer(self, request: Request) -> Response:
        queue = self._queue(request)
        consumer = self._consumer(request, queue)
        changes = self._read_consumer(await read_object(request), queue)
        if changes["type"] != consumer["type"]:
            raise RefusalError(400, 100127, "a consumer's type stays: delete it and make another one")
        self._queues.write_consumer(queue, consumer | changes)
        return answer(consumer | changes)

    async def delete_consumer(self, request: Request) -> Response:
        consumer = self._consumer(request, self._queue(request))
        self._queues.delete_consumer(consumer["consumer_id"])
        return answer(None)

    def _read_consumer(self, body: dict[str, Any], queue: Queue) -> dict[str, Any]:
        kind = body.get("type")
        sent = body.get("settings") or {}
        if kind not in {"http_pull", "worker"} or not isinstance(sent, dict):
            raise RefusalError(400, 100127, "a consumer's type is http_pull or worker, its settings are an object")
        dead_letter_queue = body.get("dead_letter_queue") or ""
        if dead_letter_queue == queue.queue_name:
            raise RefusalError(400, 100127, "a queue cannot be its own dead letter queue")
        if dead_letter_queue and self._queues.find(dead_letter_queue) is None:
            raise RefusalError(400, 11000, f"dead letter queue {dead_letter_queue!r} does not exist")
        limits = PULL_SETTINGS if kind == "http_pull" else WORKER_SETTINGS
        known = limits.keys() | ({"max_concurrency"} if kind == "worker" else set())
        if unknown := (body.keys() - CONSUMER_KEYS) | (sent.keys() - known):
            raise RefusalError(400, 100127, f"a consumer has no {', '.join(sorted(unknown))}")
        settings: dict[str, Any] = {
            name: whole_number(sent.get(name, default), name, low=low, high=high, code=100127)
            for name, (default, low, high) in limits.items()
        }
        consumer = {"type": kind, "dead_letter_queue": dead_letter_queue, "settings": settings}
        if kind == "http_pull":
            return consumer
        concurrency = sent.get("max_concurrency")
        if concurrency is not None:
            concurrency = whole_number(concurrency, "max_concurrency", low=1, high=CONCURRENCY_LIMIT, code=100127)
        settings["max_concurrency"] = concurrency
        return consumer | {"script_name": self._read_script_name(body)}

    def _read_script_name(self, body: dict[str, Any]) -> str:
        name = body.get("script_name")
        if not isinstance(name, str) or self._scripts.find(name) is None:
            raise RefusalError(404, 10007, f"Worker {name!r} does not exist")
        if any("queue" not in version.handlers for version in self._scripts.deployed(name)):
            raise RefusalError(400, 11001, f"Worker {name} has no queue handler")
        return name


def _read_settings(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict) or not settings.keys() <= DEFAULT_SETTINGS.keys():
        raise RefusalError(400, 100128, f"queue settings are {', '.join(DEFAULT_SETTINGS)}")
    for name, (low, high) in SETTINGS_LIMITS.items():
        if name in settings:
            whole_number(settings[name], name, low=low, high=high, code=100128)
    if not isinstance(settings.get("delivery_paused", False), bool):
        raise RefusalError(400, 100128, "delivery_paused is a boolean")
    return settings
