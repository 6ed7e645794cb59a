"""The job: pull, load, ack, until the queue is empty, or for ever; what landed is forwarded beside it.

A batch is acked after its commit, never before. A crash between the two has it delivered again, and the ledger makes
that a no-op. What the database did not take is handed back. The dead-letter queue, where Cloudflare puts what was
delivered too often, is drained the same way.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from flagedge.errors import ApiError, FlagedgeError, SettingsError
from log_consumer.ack import Acker, delay_of
from log_consumer.clock import utc_now
from log_consumer.engine import blames_data, describe_blame
from log_consumer.load import ROW_TABLES, Batch, Loaded, blame, decode, load, make_stage
from log_consumer.privacy import enter_key
from log_consumer.pull import EMPTY_ROUNDS, Gathered, Puller, halve, read_leases
from log_consumer.rolls import read_open_roll, roll_if_due
from log_consumer.settings import Settings
from log_consumer.store import Store

if TYPE_CHECKING:
    from log_consumer.forward import Forwarder

IDLE_FIRST_S = 1.0
# Messages that a run rejects though nothing is seen to be wrong with them; where there are more, it is us.
BLAMED_MAX = 100
# How often `run` looks into the dead-letter queue, which is empty as long as somebody drains the other.
DEAD_LETTERS_EVERY_S = 3600.0
# How long a drain that is done waits for Confidence, in all, where that fails.
FORWARD_PATIENCE_S = 15.0
BACKLOG = re.compile(r'"message_backlog_count":\s*(\d+)')

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

    def list_queue_consumers(self, queue_id: str) -> Sequence[Any]: ...

    def create_pull_consumer(self, queue_id: str) -> Any: ...

    def pull_messages(self, queue_id: str, *, batch_size: int = 100, visibility_timeout_ms: int) -> str: ...

    def ack_messages(
        self, queue_id: str, *, acks: Sequence[str], retries: Sequence[tuple[str, int]] = ()
    ) -> dict[str, Any]: ...


@dataclass(slots=True)
class Summary:
    """What a run did so far. Messages: loaded + duplicate + rejected = pulled.

    `backlog_count` is what the queue last said that it still holds, and only a hint; `forwarded` are the facts of
    forwarding, none when it is off.
    """

    batch_count: int = 0
    message_count: int = 0
    dead_letter_count: int = 0
    loaded_count: int = 0
    duplicate_count: int = 0
    rejected_count: int = 0
    backlog_count: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROW_TABLES, 0))
    forwarded: dict[str, int] = field(default_factory=dict)

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
        counts = {name: getattr(self, name) for name in self.__slots__ if name not in {"rows", "forwarded"}}
        return counts | {f"{table}_rows": count for table, count in self.rows.items()} | self.forwarded


Watch = Callable[[Summary], object]


def run(
    settings: Settings,
    account: Account,
    *,
    stop: threading.Event | None = None,
    forever: bool = False,
    watch: Watch = lambda _: None,
) -> Summary:
    """Drain the queues of these settings into their database until they are empty, or `stop` is set.

    `forever` goes on with what comes later, and survives what may pass: a database or network that is away. `watch` is
    told after each batch. Raises ApiError when there is no such queue.
    """
    started_s, stop, summary = time.monotonic(), stop or threading.Event(), Summary()
    with _forwarding(settings, stop) as forwarder, Store(settings.database, engine=settings.engine) as store:
        drain = Drain(settings, account, store, summary, forwarder=forwarder, stop=stop, watch=watch)
        if forever:
            _go_on(drain, settings.idle_max_ms / 1000, stop)
        else:
            drain.flag_logs()
            drain.dead_letters()
    summary.forwarded = forwarder.summary.facts() if forwarder else {}
    log.info("job.finished", **summary.facts(), duration_ms=_since_ms(started_s))
    return summary


class Drain:
    """Empties queues into a store, and adds to `summary`; once `stop` is set, acks what was pulled and ends."""

    def __init__(
        self,
        settings: Settings,
        account: Account,
        store: Store,
        summary: Summary,
        *,
        stop: threading.Event,
        forwarder: Forwarder | None = None,
        watch: Watch = lambda _: None,
    ) -> None:
        self._settings = settings
        self._account = account
        self._store = store
        self._summary = summary
        self._forwarder = forwarder
        self._stop = stop
        self._watch = watch
        self._blamed_count = 0
        enter_key(store, settings.key_policy)
        make_stage(store.connection, settings.key_policy)

    def flag_logs(self, *, empty_rounds: int = EMPTY_ROUNDS) -> int:
        """Empty the flag-logs queue; how many messages there were. Raises ApiError when there is no such queue."""
        queue = self._account.find_queue(self._settings.queue_name)
        if queue is None:
            raise ApiError(f"there is no queue {self._settings.queue_name}", hint="`sync-job run` makes it")
        count = self._empty(queue.queue_id, empty_rounds)
        if count and self._settings.rolls_when == "drain" and not self._stop.is_set():
            self._roll()
        return count

    def dead_letters(self) -> int:
        """Empty the dead-letter queue, if there is one; how many messages there were."""
        queue = None if self._stop.is_set() else self._account.find_queue(self._settings.dead_letter_queue_name)
        if queue is None:
            return 0
        if not self._account.list_queue_consumers(queue.queue_id):
            if not self._settings.make_resources:
                log.warning("dead_letters.unreachable", reason="the dead-letter queue has no pull consumer")
                return 0
            self._account.create_pull_consumer(queue.queue_id)
        count = self._empty(queue.queue_id, empty_rounds=1)
        self._summary.dead_letter_count += count
        return count

    def _empty(self, queue_id: str, empty_rounds: int) -> int:
        before, has_backlog, puller = self._summary.message_count, False, self._puller(queue_id, empty_rounds)
        acker = Acker[str](
            lambda lease_ids: self._account.ack_messages(queue_id, acks=lease_ids),
            max_concurrent=self._settings.max_concurrent_pulls,
        )
        try:
            with puller, acker:
                while (gathered := puller.gather()) is not None:
                    # The rest of a backlog is no small batch: merging would begin with the large ones before it.
                    self._load(gathered, acker, merge=not (has_backlog or gathered.has_more))
                    has_backlog = gathered.has_more
        except Exception as exc:
            if not isinstance(exc, ApiError):
                self._hand_back(queue_id, puller.unfinished)
            raise
        return self._summary.message_count - before

    def _hand_back(self, queue_id: str, texts: Sequence[str]) -> None:
        """Say when messages that could not be loaded shall come again; if that fails, they do when their leases end."""
        retries = [(lease_id, delay_of(attempts)) for text in texts for lease_id, attempts in read_leases(text)]
        acker = Acker[tuple[str, int]](
            lambda part: self._account.ack_messages(queue_id, acks=(), retries=part),
            max_concurrent=self._settings.max_concurrent_pulls,
        )
        with suppress(FlagedgeError), acker:
            acker.ack(retries)

    def _roll(self) -> None:
        started_s = time.monotonic()
        with self._store.transaction() as connection:
            is_done = roll_if_due(connection, read_open_roll(connection), now=utc_now())
        if is_done:
            log.info("exposures.rolled", duration_ms=_since_ms(started_s))

    def _load(self, gathered: Gathered, acker: Acker[str], *, merge: bool) -> None:
        self._load_answers(gathered.texts, acker, merge=merge)
        self._summary.backlog_count = _read_backlog(gathered.texts[-1])
        self._watch(self._summary)

    def _load_answers(self, texts: Sequence[str], acker: Acker[str], *, merge: bool) -> None:
        """Load and ack as one batch; where its data is to blame for a failure, in halves, until a message is alone."""
        started_s, now = time.monotonic(), utc_now()
        try:
            batch = decode(self._store.connection, texts, now=now, keeps_text=bool(self._settings.forward))
            loaded = self._write(batch, merge=merge)
        except FlagedgeError as exc:
            if not blames_data(exc) or self._blamed_count >= BLAMED_MAX:
                raise
            parts = halve(texts)
            if len(parts) > 1:
                for part in parts:
                    self._load_answers(part, acker, merge=merge)
                return
            batch = blame(self._store.connection, texts, reason=describe_blame(exc), now=now)
            loaded = self._write(batch, merge=merge)
            self._blamed_count += 1
        acker.ack(batch.lease_ids)
        if self._forwarder:
            self._forwarder.wake()
        self._summary.add(batch, loaded)
        _log_batch(batch, loaded, started_s)

    def _write(self, batch: Batch, *, merge: bool) -> Loaded:
        with self._store.transaction(merge=merge) as connection:
            return load(connection, batch, is_lake=self._store.is_lake, fills_outbox=bool(self._settings.forward))

    def _puller(self, queue_id: str, empty_rounds: int) -> Puller:
        settings = self._settings
        pull = partial(
            self._account.pull_messages,
            queue_id,
            batch_size=settings.pull_batch_size,
            visibility_timeout_ms=settings.visibility_timeout_ms,
        )
        return Puller(
            pull,
            max_concurrent=settings.max_concurrent_pulls,
            max_bytes=settings.batch_max_bytes,
            max_wait_s=settings.batch_max_wait_ms / 1000,
            empty_rounds=empty_rounds,
            stop=self._stop,
        )


def _go_on(drain: Drain, idle_max_s: float, stop: threading.Event) -> None:
    """Drain for ever, the less often the longer nothing came: an empty pull may be billed like any other."""
    idle_s, next_dead_letters_s = IDLE_FIRST_S, time.monotonic()
    while not stop.is_set():
        is_idle = idle_s > IDLE_FIRST_S
        try:
            count = drain.flag_logs(empty_rounds=1 if is_idle else EMPTY_ROUNDS)
            if time.monotonic() >= next_dead_letters_s:
                next_dead_letters_s = time.monotonic() + DEAD_LETTERS_EVERY_S
                count += drain.dead_letters()
        except SettingsError:
            raise
        except FlagedgeError as exc:
            log.error("drain.interrupted", error=str(exc))  # noqa: TRY400 - the message says it all
            count = 0
        idle_s = IDLE_FIRST_S if count else min(2 * idle_s, idle_max_s)
        stop.wait(idle_s * random.uniform(0.5, 1.5))  # noqa: S311 - it spreads load


@contextmanager
def _forwarding(settings: Settings, stop: threading.Event) -> Iterator[Forwarder | None]:
    """What forwards to Confidence until the block is left, with a store of its own; None when that is off."""
    if not settings.forward:
        yield None
        return
    # Imported late: those who want only SQL need neither protobuf nor HTTP to Confidence.
    from log_consumer.destination import open_destinations  # noqa: PLC0415
    from log_consumer.forward import Courier, Forwarder  # noqa: PLC0415
    from log_consumer.outbox import Outbox  # noqa: PLC0415

    how = settings.forward
    destinations = open_destinations(
        how.destinations,
        client_secret=how.client_secret,
        account=how.account,
        edge_url=how.edge_url,
        cloudflare_url=how.cloudflare_url,
        timeout_s=how.timeout_ms / 1000,
    )
    with (
        Store(settings.database, engine=settings.engine) as store,
        Courier(
            destinations, max_bytes=how.max_bytes, max_concurrent=how.max_concurrent, max_refusals=how.max_refusals
        ) as courier,
        Forwarder(Outbox(store), courier, stop=stop, patience_s=FORWARD_PATIENCE_S) as forwarder,
    ):
        yield forwarder


def _read_backlog(text: str) -> int:
    # What precedes the messages or follows them; a quote inside a body is escaped.
    found = BACKLOG.search(text, 0, 1000) or BACKLOG.search(text, max(0, len(text) - 1000))
    return int(found[1]) if found else 0


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
