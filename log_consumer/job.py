"""The job: pull, load, ack, until the queue is empty.

A batch is acked after its commit, never before. A crash between the two has it delivered again, and the ledger makes
that a no-op.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import structlog

from flagedge.errors import ApiError
from log_consumer.ack import Acker
from log_consumer.load import ROW_TABLES, Batch, Loaded, decode, load, make_stage
from log_consumer.pull import Puller
from log_consumer.settings import Settings
from log_consumer.store import Store

log = structlog.stdlib.get_logger()


class NamedQueue(Protocol):
    """A queue as the account knows it."""

    @property
    def queue_id(self) -> str: ...


class Account(Protocol):
    """What the job needs of Cloudflare; `flagedge.cloudflare.Cloudflare` is one. Called from several threads.

    Calls are retried behind it; what it raises is final. `pull_messages` answers with the raw JSON text and may be
    empty while the queue is not; messages that are not acked come again. Acking a message twice is no error.
    """

    def find_queue(self, name: str) -> NamedQueue | None: ...

    def pull_messages(self, queue_id: str, *, batch_size: int = 100, visibility_timeout_ms: int) -> str: ...

    def ack_messages(
        self, queue_id: str, *, acks: Sequence[str], retries: Sequence[tuple[str, int]] = ()
    ) -> dict[str, Any]: ...


@dataclass(slots=True)
class Summary:
    """What a run did. Messages: loaded + duplicate + rejected = pulled."""

    batch_count: int = 0
    message_count: int = 0
    loaded_count: int = 0
    duplicate_count: int = 0
    rejected_count: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROW_TABLES, 0))

    def add(self, batch: Batch, loaded: Loaded) -> None:
        self.batch_count += 1
        self.message_count += batch.message_count
        self.loaded_count += loaded.loaded_count
        self.duplicate_count += loaded.duplicate_count
        self.rejected_count += loaded.rejected_count
        for table, count in loaded.rows.items():
            self.rows[table] += count

    def facts(self) -> dict[str, int]:
        """As flat keys, for the log and for `--json`."""
        messages = {name: getattr(self, name) for name in self.__slots__ if name != "rows"}
        return messages | {f"{table}_rows": count for table, count in self.rows.items()}


def run(settings: Settings, account: Account, *, stop: threading.Event | None = None) -> Summary:
    """Drain the queue of these settings into their database, or until `stop` is set.

    Raises ApiError when there is no such queue.
    """
    started_s = time.monotonic()
    queue = account.find_queue(settings.queue_name)
    if queue is None:
        raise ApiError(f"there is no queue {settings.queue_name}", hint="`sync-job run` makes it")
    with Store(settings.database) as store:
        summary = drain(settings, account, queue.queue_id, store, stop=stop or threading.Event())
    log.info("job.finished", **summary.facts(), duration_ms=_since_ms(started_s))
    return summary


def drain(settings: Settings, account: Account, queue_id: str, store: Store, *, stop: threading.Event) -> Summary:
    """Pull, load and ack until the queue is empty; once `stop` is set, until what was pulled is acked."""
    summary = Summary()
    make_stage(store.connection)
    pull = partial(
        account.pull_messages,
        queue_id,
        batch_size=settings.pull_batch_size,
        visibility_timeout_ms=settings.visibility_timeout_ms,
    )
    puller = Puller(
        pull,
        max_concurrent=settings.max_concurrent_pulls,
        max_bytes=settings.batch_max_bytes,
        max_wait_s=settings.batch_max_wait_ms / 1000,
        stop=stop,
    )
    acker = Acker(
        lambda lease_ids: account.ack_messages(queue_id, acks=lease_ids), max_concurrent=settings.max_concurrent_pulls
    )
    has_backlog = False
    with puller, acker:
        while (gathered := puller.gather()) is not None:
            started_s = time.monotonic()
            batch = decode(store.connection, gathered.texts, now=datetime.now(UTC).replace(tzinfo=None))
            # The rest of a backlog is no small batch: merging would begin with the large ones before it.
            with store.transaction(merge=not (has_backlog or gathered.has_more)) as connection:
                loaded = load(connection, batch)
            acker.ack(batch.lease_ids)
            has_backlog = gathered.has_more
            summary.add(batch, loaded)
            _log_batch(batch, loaded, started_s)
    return summary


def _log_batch(batch: Batch, loaded: Loaded, started_s: float) -> None:
    log.debug(
        "batch.loaded",
        message_count=batch.message_count,
        message_bytes=batch.message_bytes,
        duplicate_count=loaded.duplicate_count,
        **{f"{table}_rows": count for table, count in loaded.rows.items()},
        duration_ms=_since_ms(started_s),
    )
    if loaded.rejected_count:
        log.warning("messages.rejected", rejected_count=loaded.rejected_count)


def _since_ms(started_s: float) -> int:
    return round((time.monotonic() - started_s) * 1000)
