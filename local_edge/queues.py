"""The queues of the account and their consumers, as rows of the store (reference: Cloudflare Queues)."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_edge.envelope import RefusalError
from local_edge.messages import Messages, PullConsumer
from local_edge.scripts import new_id
from local_edge.store import now_text

if TYPE_CHECKING:
    from local_edge.store import Store

QUEUE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DEFAULT_SETTINGS = {"delivery_delay": 0, "delivery_paused": False, "message_retention_period": 345_600}


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


class Queues:
    """The queues of the account and their consumers."""

    def __init__(self, store: Store, messages: Messages) -> None:
        self._store = store
        self._messages = messages
        self._attached_at: dict[str, float] = {}

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
        self._attached_at[queue.queue_id] = time.monotonic()
        return consumer

    def consumer_age_s(self, queue: Queue) -> float:
        """How long the queue has had its consumer; one that this process has not made is old."""
        return time.monotonic() - self._attached_at.get(queue.queue_id, float("-inf"))

    def is_consumer(self, script: str) -> bool:
        """Whether a script takes the messages of a queue."""
        bodies = [json.loads(body) for (body,) in self._store.db.execute("select body from consumers")]
        return any(body.get("script_name") == script for body in bodies)

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
