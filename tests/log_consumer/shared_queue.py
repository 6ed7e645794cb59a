"""A queue behind HTTP that several consumer processes drain at once, and that hands messages to two of them.

Every fifth message goes out twice at the same moment: to whoever pulls it, and to the next consumer that is another
one, told apart by its API token. Either ack removes it. Leases end in real time.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from fake_queue import QUEUE_ID, QUEUE_NAME, FakeQueue, Message, pull_response

ACCOUNT = "0123456789abcdef0123456789abcdef"


class SharedQueue(FakeQueue):
    """`pair_count` are the messages that two consumers got at the same time; `pulls_by` counts by API token."""

    def __init__(self, *bodies: str) -> None:
        super().__init__(*bodies)
        self.pair_count = 0
        self.pulls_by: Counter[str] = Counter()
        self.url = ""
        self._waiting: list[tuple[str, Message]] = []  # who has it already, and what the next one gets too
        self._leased: dict[str, str] = {}  # message by lease

    def pull_for(self, consumer: str, *, batch_size: int, visibility_timeout_ms: int) -> str:
        with self._lock:
            self.pulls_by[consumer] += 1
            now_ms = time.monotonic() * 1000
            twins = [each for holder, each in self._waiting if holder != consumer][:batch_size]
            self._waiting = [(holder, each) for holder, each in self._waiting if each not in twins]
            self.pair_count += len(twins)
            fresh = [each for each in self.messages if each.visible_at_ms <= now_ms and each not in twins]
            fresh = fresh[: batch_size - len(twins)]
            self._waiting += [(consumer, each) for each in fresh if self._is_paired(each)]
            for each in (*twins, *fresh):
                each.attempts += 1
                each.visible_at_ms = now_ms + visibility_timeout_ms
                each.lease_id = f"lease-{each.message_id}-{each.attempts}"
                self._leased[each.lease_id] = each.message_id
            return pull_response(*twins, *fresh, backlog_count=len(self.messages))

    def ack_messages(
        self, queue_id: str, *, acks: Sequence[str], retries: Sequence[tuple[str, int]] = ()
    ) -> dict[str, Any]:
        with self._lock:
            acked = {self._leased[lease] for lease in acks}
            self.acked += acked & {each.message_id for each in self.messages}
            self.messages = [each for each in self.messages if each.message_id not in acked]
        return {"ackCount": len(acks), "retryCount": 0, "warnings": {}}

    def end_leases(self) -> None:
        with self._lock:
            self._waiting = []
            for each in self.messages:
                each.visible_at_ms = 0

    def _is_paired(self, message: Message) -> bool:
        return message.attempts == 0 and int(message.message_id, 16) % 5 == 0


@contextmanager
def serve(queue: SharedQueue) -> Iterator[SharedQueue]:
    """The queue at `queue.url`, as Cloudflare's API has it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"queue": queue}))
    server.daemon_threads = True  # connections of consumers that were killed end by themselves
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    queue.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield queue
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """The calls that a consumer makes."""

    protocol_version = "HTTP/1.1"
    queue: SharedQueue

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        queues = [{"queue_id": QUEUE_ID, "queue_name": QUEUE_NAME}]
        found = {"/accounts": [{"id": ACCOUNT, "name": "test"}], f"/accounts/{ACCOUNT}/queues": queues}
        self._answer(found[path])

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/messages/pull"):
            token = self.headers["Authorization"].removeprefix("Bearer ")
            self._send(self.queue.pull_for(token, **asked))
        else:
            self._answer(self.queue.ack_messages(QUEUE_ID, acks=[each["lease_id"] for each in asked["acks"]]))

    def _answer(self, result: Any) -> None:
        page = {"page": 1, "per_page": 50, "count": 1, "total_count": 1, "total_pages": 1}
        self._send(json.dumps({"success": True, "errors": [], "messages": [], "result": result, "result_info": page}))

    def _send(self, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Stay silent."""
