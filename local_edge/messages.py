"""Messages in queues: visibility, leases, attempts, dead letters (reference: Cloudflare Queues, pull consumers).

A message is leased by making it invisible until the lease ends; the lease id is the pull's random token plus the
message's number. What a pull answers with is prepared when the message is sent, so that pulling is a join of texts.
A lease that ended is still good for an ack until the message has been handed out again.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_edge.envelope import RefusalError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from local_edge.store import Store

MESSAGE_BYTES_LIMIT = 128_000
BATCH_BYTES_LIMIT = 256_000
BATCH_COUNT_LIMIT = 100
DELAY_S_LIMIT = 86_400
VISIBILITY_MS_LIMIT = 43_200_000
TOKEN_LENGTH = 32
LEASE_LENGTH = TOKEN_LENGTH + 12


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way into a queue; `content_type` is json, text, bytes or v8."""

    body: bytes
    content_type: str
    delay_s: int | None = None


@dataclass(slots=True)
class Backlog:
    """How much a queue holds, leased messages included."""

    count: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PullConsumer:
    """What an http_pull consumer says about deliveries; `dead_letter_no` is the queue for what failed too often."""

    max_retries: int
    retry_delay_s: int
    dead_letter_no: int | None


@dataclass(slots=True)
class Delivery:
    """The messages of one pull: finished JSON objects, and the backlog that they leave behind."""

    fragments: list[str] = field(default_factory=list)
    backlog: Backlog = field(default_factory=Backlog)
    oldest_at_ms: int = 0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _fragment(message: Message, source: str, at_ms: int) -> str:
    """The JSON object of a pulled message up to where its attempts and lease follow."""
    if message.content_type == "text":
        body = json.dumps(message.body.decode("utf-8", "replace"), ensure_ascii=False)
    else:
        body = f'"{base64.b64encode(message.body).decode()}"'
    return (
        f'{{"id":"{os.urandom(16).hex()}","body":{body},"timestamp_ms":{at_ms},"metadata":'
        f'{{"CF-sourceMessageSource":"{source}","CF-Content-Type":"{message.content_type}"}}'
    )


def _split_lease(lease_id: str) -> tuple[int, str]:
    """The message number and the token of a lease id; -1 when it cannot be one."""
    try:
        if len(lease_id) != LEASE_LENGTH:
            return -1, ""
        return int(lease_id[TOKEN_LENGTH:], 16), lease_id[:TOKEN_LENGTH]
    except ValueError:
        return -1, ""


class Messages:
    """The messages of all queues, by queue number."""

    def __init__(self, store: Store) -> None:
        self._store = store
        counts = "select queue_no, count(*), sum(size_bytes) from messages group by queue_no"
        self._backlogs = {no: Backlog(count, size) for no, count, size in store.db.execute(counts)}

    def backlog(self, queue_no: int) -> Backlog:
        return self._backlogs.setdefault(queue_no, Backlog())

    def oldest_at_ms(self, queue_no: int) -> int:
        """When the oldest message was sent; 0 when there is none."""
        if not self.backlog(queue_no).count:
            return 0
        oldest = "select enqueued_at_ms from messages where queue_no = ? order by seq limit 1"
        row = self._store.db.execute(oldest, (queue_no,)).fetchone()
        return int(row[0]) if row else 0

    def send(self, queue_no: int, messages: Sequence[Message], *, source: str, default_delay_s: int = 0) -> None:
        """All or none; checks sizes, counts and delays as the data plane does."""
        _check_sizes(messages)
        at_ms = now_ms()
        backlog = self.backlog(queue_no)
        with self._store.transaction() as db:
            for message in messages:
                delay_s = default_delay_s if message.delay_s is None else message.delay_s
                row = (queue_no, at_ms + delay_s * 1000, at_ms, len(message.body))
                cursor = db.execute(
                    "insert into messages (queue_no, visible_at_ms, enqueued_at_ms, size_bytes) values (?, ?, ?, ?)",
                    row,
                )
                fragment = _fragment(message, source, at_ms)
                db.execute("insert into message_bodies (seq, fragment) values (?, ?)", (cursor.lastrowid, fragment))
        backlog.count += len(messages)
        backlog.size_bytes += sum(len(message.body) for message in messages)

    def pull(
        self, queue_no: int, consumer: PullConsumer, *, limit: int, visibility_ms: int, retention_s: int
    ) -> Delivery:
        """Lease up to `limit` visible messages; what failed too often or grew too old leaves the queue instead."""
        at_ms = now_ms()
        token = os.urandom(TOKEN_LENGTH // 2).hex()
        delivery = Delivery()
        with self._store.transaction() as db:
            while len(delivery.fragments) < limit:
                due = self._due(db, queue_no, at_ms, limit - len(delivery.fragments))
                if not due:
                    break
                good, old, spent = [], [], []
                for seq, attempts, enqueued_at_ms, fragment in due:
                    if enqueued_at_ms < at_ms - retention_s * 1000:
                        old.append(seq)
                    elif attempts > consumer.max_retries:
                        spent.append(seq)
                    else:
                        good.append(seq)
                        delivery.fragments.append(
                            f'{fragment},"attempts":{attempts + 1},"lease_id":"{token}{seq:012x}"}}'
                        )
                lease = "update messages set visible_at_ms = ?, lease = ?, attempts = attempts + 1 where seq in (select value from json_each(?))"  # noqa: E501 - one statement
                db.execute(lease, (at_ms + max(1, visibility_ms), token, json.dumps(good)))
                self._remove(db, queue_no, old)
                self._bury(db, queue_no, consumer, spent, at_ms)
        delivery.backlog = self.backlog(queue_no)
        delivery.oldest_at_ms = self.oldest_at_ms(queue_no)
        return delivery

    @staticmethod
    def _due(db: sqlite3.Connection, queue_no: int, at_ms: int, limit: int) -> list[tuple[int, int, int, str]]:
        return db.execute(
            """select m.seq, m.attempts, m.enqueued_at_ms, b.fragment
               from messages m join message_bodies b using (seq)
               where m.queue_no = ? and m.visible_at_ms <= ? order by m.visible_at_ms, m.seq limit ?""",
            (queue_no, at_ms, limit),
        ).fetchall()

    def bury_spent(self, queue_no: int, consumer: PullConsumer) -> None:
        """Send on what was delivered once more than it may be retried, as a look into its dead letter queue expects."""
        at_ms = now_ms()
        due = "select seq from messages where queue_no = ? and visible_at_ms <= ? and attempts > ?"
        with self._store.transaction() as db:
            spent = [seq for (seq,) in db.execute(due, (queue_no, at_ms, consumer.max_retries))]
            self._bury(db, queue_no, consumer, spent, at_ms)

    def ack(self, queue_no: int, lease_ids: Sequence[str]) -> list[str]:
        """Delete leased messages; returns the leases that were not known."""
        by_token: defaultdict[str, dict[int, str]] = defaultdict(dict)
        unknown: list[str] = []
        for lease_id in lease_ids:
            seq, token = _split_lease(lease_id)
            by_token[token][seq] = lease_id
        known = "select seq from messages where lease = ? and queue_no = ? and seq in (select value from json_each(?))"
        with self._store.transaction() as db:
            for token, leases in by_token.items():
                held = [seq for (seq,) in db.execute(known, (token, queue_no, json.dumps(list(leases))))]
                self._remove(db, queue_no, held)
                unknown += [lease_id for seq, lease_id in leases.items() if seq not in held]
        return unknown

    def retry(self, queue_no: int, consumer: PullConsumer, retries: Sequence[tuple[str, int | None]]) -> list[str]:
        """Hand leased messages back, visible after a delay; returns the leases that were not known."""
        unknown = []
        at_ms = now_ms()
        with self._store.transaction() as db:
            for lease_id, delay_s in retries:
                seq, token = _split_lease(lease_id)
                known = "select attempts from messages where seq = ? and lease = ? and queue_no = ?"
                row = db.execute(known, (seq, token, queue_no)).fetchone()
                if row is None:
                    unknown.append(lease_id)
                elif row[0] > consumer.max_retries:
                    self._bury(db, queue_no, consumer, [seq], at_ms)
                else:
                    visible_at_ms = at_ms + (consumer.retry_delay_s if delay_s is None else delay_s) * 1000
                    hand_back = "update messages set visible_at_ms = ?, lease = null where seq = ?"
                    db.execute(hand_back, (visible_at_ms, seq))
        return unknown

    def clear(self, queue_no: int) -> None:
        with self._store.transaction() as db:
            held = [seq for (seq,) in db.execute("select seq from messages where queue_no = ?", (queue_no,))]
            self._remove(db, queue_no, held)

    def _remove(self, db: sqlite3.Connection, queue_no: int, seqs: Sequence[int]) -> None:
        backlog = self.backlog(queue_no)
        numbers = (json.dumps(seqs),)
        gone = "delete from messages where seq in (select value from json_each(?)) returning size_bytes"
        sizes = [size for (size,) in db.execute(gone, numbers)]
        db.execute("delete from message_bodies where seq in (select value from json_each(?))", numbers)
        backlog.count -= len(sizes)
        backlog.size_bytes -= sum(sizes)

    def _bury(
        self, db: sqlite3.Connection, queue_no: int, consumer: PullConsumer, seqs: Sequence[int], at_ms: int
    ) -> None:
        if consumer.dead_letter_no is None:
            self._remove(db, queue_no, seqs)
            return
        source, target = self.backlog(queue_no), self.backlog(consumer.dead_letter_no)
        for seq in seqs:
            row = db.execute(
                """update messages set queue_no = ?, attempts = 0, lease = null, visible_at_ms = ?, enqueued_at_ms = ?
                   where seq = ? returning size_bytes""",
                (consumer.dead_letter_no, at_ms, at_ms, seq),
            ).fetchone()
            source.count -= 1
            source.size_bytes -= row[0]
            target.count += 1
            target.size_bytes += row[0]


def _check_sizes(messages: Sequence[Message]) -> None:
    if len(messages) > BATCH_COUNT_LIMIT:
        raise RefusalError(413, 10206, f"a batch holds at most {BATCH_COUNT_LIMIT} messages")
    if any(len(message.body) > MESSAGE_BYTES_LIMIT for message in messages):
        raise RefusalError(413, 10204, f"message is longer than {MESSAGE_BYTES_LIMIT} bytes")
    if sum(len(message.body) for message in messages) > BATCH_BYTES_LIMIT:
        raise RefusalError(413, 10205, f"batch is longer than {BATCH_BYTES_LIMIT} bytes")
    if any(not 0 <= (message.delay_s or 0) <= DELAY_S_LIMIT for message in messages):
        raise RefusalError(400, 10202, f"delay must be from 0 to {DELAY_S_LIMIT} seconds")


def metrics(backlog: Backlog, oldest_at_ms: int) -> dict[str, Any]:
    return {
        "backlog_count": backlog.count,
        "backlog_bytes": backlog.size_bytes,
        "oldest_message_timestamp_ms": oldest_at_ms,
    }
