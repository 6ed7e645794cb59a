"""One pull loaded as the job does, and a look at what it left."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fake_queue import QUEUE_ID, FakeQueue

from log_consumer.load import Loaded, decode, load
from log_consumer.store import Store

NOW = datetime(2026, 11, 21, 12)  # noqa: DTZ001 - the database's timestamps are UTC without saying so.


def load_next(store: Store, queue: FakeQueue) -> Loaded:
    """Pull and load without acking."""
    text = queue.pull_messages(QUEUE_ID, visibility_timeout_ms=1000)
    batch = decode(store.connection, [text], now=NOW)
    with store.transaction() as connection:
        return load(connection, batch, is_lake=store.is_lake)


def ask(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store.transaction() as connection:
        return connection.execute(sql).fetchall()
