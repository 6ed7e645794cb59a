"""The job: pull, load, ack, until the queue is empty.

A batch is acked after its commit, never before. A crash between the two has it delivered again, and the ledger makes
that a no-op.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from flagedge.errors import ApiError
from log_consumer.load import ROW_TABLES, Loaded, Pull, decode, load, make_stage
from log_consumer.settings import Settings
from log_consumer.store import Store

# A pull may come back empty while the queue is not, so one says little.
EMPTY_PULLS = 3
EMPTY_PULL_WAIT_S = 0.5

log = structlog.stdlib.get_logger()


class NamedQueue(Protocol):
    """A queue as the account knows it."""

    @property
    def queue_id(self) -> str: ...


class Account(Protocol):
    """What the job needs of Cloudflare; `flagedge.cloudflare.Cloudflare` is one.

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

    def add(self, pull: Pull, loaded: Loaded) -> None:
        self.batch_count += 1
        self.message_count += pull.message_count
        self.loaded_count += loaded.loaded_count
        self.duplicate_count += loaded.duplicate_count
        self.rejected_count += loaded.rejected_count
        for table, count in loaded.rows.items():
            self.rows[table] += count

    def facts(self) -> dict[str, int]:
        """As flat keys, for the log and for `--json`."""
        messages = {name: getattr(self, name) for name in self.__slots__ if name != "rows"}
        return messages | {f"{table}_rows": count for table, count in self.rows.items()}


def run(settings: Settings, account: Account, *, sleep: Callable[[float], None] = time.sleep) -> Summary:
    """Drain the queue of these settings into their database. Raises ApiError when there is no such queue."""
    started_s = time.monotonic()
    queue = account.find_queue(settings.queue_name)
    if queue is None:
        raise ApiError(f"there is no queue {settings.queue_name}", hint="`sync-job run` makes it")
    with Store(settings.database, sleep=sleep) as store:
        summary = drain(settings, account, queue.queue_id, store, sleep=sleep)
    log.info("job.finished", **summary.facts(), duration_ms=_since_ms(started_s))
    return summary


def drain(
    settings: Settings, account: Account, queue_id: str, store: Store, *, sleep: Callable[[float], None] = time.sleep
) -> Summary:
    """Pull, load and ack until several pulls in a row were empty."""
    summary, empty_pulls = Summary(), 0
    make_stage(store.connection)
    while empty_pulls < EMPTY_PULLS:
        store.release_when_due()
        text = account.pull_messages(
            queue_id, batch_size=settings.pull_batch_size, visibility_timeout_ms=settings.visibility_timeout_ms
        )
        started_s = time.monotonic()
        pull = decode(store.connection, text, now=datetime.now(UTC).replace(tzinfo=None))
        if not pull.message_count:
            store.release()
            empty_pulls += 1
            sleep(EMPTY_PULL_WAIT_S if empty_pulls < EMPTY_PULLS else 0)
            continue
        empty_pulls = 0
        with store.transaction() as connection:
            loaded = load(connection, pull)
        account.ack_messages(queue_id, acks=pull.lease_ids)
        summary.add(pull, loaded)
        _log_batch(pull, loaded, started_s)
    return summary


def _log_batch(pull: Pull, loaded: Loaded, started_s: float) -> None:
    log.debug(
        "batch.loaded",
        message_count=pull.message_count,
        message_bytes=pull.message_bytes,
        duplicate_count=loaded.duplicate_count,
        **{f"{table}_rows": count for table, count in loaded.rows.items()},
        duration_ms=_since_ms(started_s),
    )
    if loaded.rejected_count:
        log.warning("messages.rejected", rejected_count=loaded.rejected_count)


def _since_ms(started_s: float) -> int:
    return round((time.monotonic() - started_s) * 1000)
