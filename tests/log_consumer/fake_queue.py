"""A queue in memory: leases that end, redelivery, and answers in exactly the shape of Cloudflare's.

Source: Cloudflare's queue API (pull and ack of messages). Time is a number that the test moves. May be called from
several threads.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

QUEUE_ID = "7b5a0e2c9d1f4e6a8c3b2d1e0f9a8b7c"
QUEUE_NAME = "flag-logs-queue"


@dataclass
class Message:
    """A message in the queue; `body` is as it is sent to a consumer."""

    message_id: str
    body: str
    content_type: str | None
    attempts: int = 0
    visible_at_ms: int = 0
    lease_id: str = ""


@dataclass(frozen=True)
class Queue:
    queue_id: str = QUEUE_ID
    queue_name: str = QUEUE_NAME


class FakeQueue:
    """An account with one queue. `empty_pulls` makes that many next pulls come back empty, whatever is there."""

    def __init__(self, *bodies: str, name: str = QUEUE_NAME) -> None:
        self.name = name
        self.now_ms = 0
        self.messages: list[Message] = []
        self.acked: list[str] = []
        self.empty_pulls = 0
        self.pull_count = 0
        self._sent_count = 0
        self._lock = threading.Lock()
        self.send(*bodies)

    def send(self, *bodies: str, content_type: str | None = "text", encode: bool = True) -> None:
        """Queue each body; json and bytes are base64-encoded as the real queue does, unless told not to."""
        for body in bodies:
            self._sent_count += 1
            sent = body
            if content_type in {"json", "bytes"} and encode:
                sent = base64.b64encode(body.encode()).decode()
            self.messages.append(Message(f"{self._sent_count:032x}", sent, content_type))

    def find_queue(self, name: str) -> Queue | None:
        return Queue() if name == self.name else None

    def list_queue_consumers(self, queue_id: str) -> list[dict[str, Any]]:
        return [{"consumer_id": "pull", "type": "http_pull"}]

    def create_pull_consumer(self, queue_id: str) -> None:
        raise AssertionError("it has one")

    def pull_messages(self, queue_id: str, *, batch_size: int = 100, visibility_timeout_ms: int) -> str:
        assert queue_id == QUEUE_ID
        with self._lock:
            self.pull_count += 1
            if self.empty_pulls:
                self.empty_pulls -= 1
                return pull_response()
            leased = [each for each in self.messages if each.visible_at_ms <= self.now_ms][:batch_size]
            for each in leased:
                each.attempts += 1
                each.visible_at_ms = self.now_ms + visibility_timeout_ms
                each.lease_id = f"lease-{each.message_id}-{each.attempts}"
            return pull_response(*leased, backlog_count=len(self.messages))

    def ack_messages(
        self, queue_id: str, *, acks: Sequence[str], retries: Sequence[tuple[str, int]] = ()
    ) -> dict[str, Any]:
        assert queue_id == QUEUE_ID
        assert 1 <= len(acks) + len(retries) <= 100
        with self._lock:
            for lease_id, delay_s in retries:
                for each in self.messages:
                    if each.lease_id == lease_id:
                        each.visible_at_ms = self.now_ms + 1000 * delay_s
            known = {each.lease_id for each in self.messages}
            self.acked += [each.message_id for each in self.messages if each.lease_id in acks]
            self.messages = [each for each in self.messages if each.lease_id not in acks]
        unknown = {lease: "unknown lease" for lease in acks if lease not in known}
        return {"ackCount": len(acks) - len(unknown), "retryCount": 0, "warnings": unknown}

    def end_leases(self) -> None:
        """Let time pass until everything that was not acked is visible again."""
        self.now_ms = max((each.visible_at_ms for each in self.messages), default=self.now_ms)


def pull_response(*messages: Message, backlog_count: int = 0) -> str:
    listed = []
    for each in messages:
        metadata = {"CF-sourceMessageSource": "worker"}
        if each.content_type is not None:
            metadata["CF-Content-Type"] = each.content_type
        listed.append(
            {
                "id": each.message_id,
                "body": each.body,
                "timestamp_ms": 1_763_700_001_000,
                "attempts": each.attempts,
                "lease_id": each.lease_id,
                "metadata": metadata,
            }
        )
    metrics = {"backlog_count": backlog_count, "backlog_bytes": 0, "oldest_message_timestamp_ms": 0}
    result = {"message_backlog_count": backlog_count, "metadata": {"metrics": metrics}, "messages": listed}
    return json.dumps({"success": True, "errors": [], "messages": [], "result": result}, ensure_ascii=False)
