"""A queue's messages over the REST API: sent, pulled, acknowledged."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from local_edge.envelope import RefusalError, answer, read_object, to_json, whole_number
from local_edge.messages import (
    BATCH_COUNT_LIMIT,
    DELAY_S_LIMIT,
    VISIBILITY_MS_LIMIT,
    Message,
    Messages,
    PullConsumer,
    metrics,
)

if TYPE_CHECKING:
    from starlette.requests import Request

    from local_edge.conditions import Conditions
    from local_edge.queues import Queue, Queues


class MessagesApi:
    """Handlers for what is below /accounts/{account}/queues/{queue}/messages, and its metrics."""

    def __init__(self, *, queues: Queues, messages: Messages, conditions: Conditions) -> None:
        self._queues = queues
        self._messages = messages
        self._conditions = conditions

    def routes(self) -> list[Route]:
        queue = "/{queue_id}"
        return [
            Route(f"{queue}/metrics", self.get_metrics, methods=["GET"]),
            Route(f"{queue}/messages", self.push, methods=["POST"]),
            Route(f"{queue}/messages/batch", self.push_batch, methods=["POST"]),
            Route(f"{queue}/messages/pull", self.pull, methods=["POST"]),
            Route(f"{queue}/messages/ack", self.ack, methods=["POST"]),
        ]

    def _queue(self, request: Request) -> Queue:
        return self._queues.get(request.path_params["queue_id"])

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

    def _pull_consumer(self, queue: Queue) -> PullConsumer:
        consumer = self._queues.pull_consumer(queue)
        if consumer is None or self._queues.consumer_age_s(queue) * 1000 < self._conditions.consumer_settle_ms:
            raise RefusalError(405, 10405, "HTTP pull is not enabled on this queue: add an http_pull consumer")
        return consumer

    def _cut(self, limit: int, request: Request, queue: Queue) -> int:
        """How many messages a pull may bring, for it may bring fewer than there are."""
        if queue.settings["delivery_paused"]:
            return 0
        if request.scope.get("local_edge.short"):
            return limit // 2
        if random.random() < self._conditions.short_pulls:  # noqa: S311 - chance, not secrecy
            return random.randrange(limit)  # noqa: S311
        return limit

    async def pull(self, request: Request) -> Response:
        queue = self._queue(request)
        consumer = self._pull_consumer(queue)
        body = await read_object(request) if await request.body() else {}
        limit = whole_number(body.get("batch_size", 5), "batch_size", low=1, high=BATCH_COUNT_LIMIT)
        visibility = body.get("visibility_timeout_ms", 30_000)
        visibility_ms = whole_number(visibility, "visibility_timeout_ms", low=0, high=VISIBILITY_MS_LIMIT)
        self._queues.bury_for(queue)
        delivery = self._messages.pull(
            queue.queue_no, consumer, limit=self._cut(limit, request, queue), visibility_ms=visibility_ms,
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
        consumer = self._pull_consumer(queue)
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
