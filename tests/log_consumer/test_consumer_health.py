"""The view delivery_health: what arrived, what is known to be missing, what nobody can know."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

from deliveries import NOW, ask
from messages import body

from log_consumer.load import Loaded
from log_consumer.store import Store

Deliver = Callable[..., Loaded]
COLUMNS = "expected_count, landed_count, duplicate_count, missing_count, dropped_count, open_stream_count, late_count"


def sent(seq: int, *, hours_ago: float = 0.5, isolate: str = "one", **changes: Any) -> str:
    """A message of an isolate, by its number and age."""
    at_ms = round(NOW.replace(tzinfo=UTC).timestamp() * 1000 - hours_ago * 3_600_000)
    return body(isolate=isolate, seq=seq, sent_at_ms=at_ms, **changes)


def health(store: Store) -> list[tuple[int, ...]]:
    return ask(store, f"select {COLUMNS} from delivery_health")


def test_a_whole_stream(deliver: Deliver, store: Store) -> None:
    """Nothing is missing; only what the isolate may have sent afterwards is open."""
    deliver(sent(0), sent(1), sent(2))
    assert health(store) == [(3, 3, 0, 0, 0, 1, 0)]


def test_a_gap_is_counted_and_closes(deliver: Deliver, store: Store) -> None:
    """A number left out is missing until it lands, however late; the first number is 0."""
    deliver(sent(1), sent(4))
    assert health(store) == [(5, 2, 0, 3, 0, 1, 0)]
    deliver(sent(3), sent(2), sent(0))
    assert health(store) == [(5, 5, 0, 0, 0, 1, 0)]


def test_streams_do_not_mix(deliver: Deliver, store: Store) -> None:
    """Numbers are the isolate's own."""
    deliver(sent(0), sent(0, isolate="two"), sent(2, isolate="two"))
    assert health(store) == [(4, 3, 0, 1, 0, 2, 0)]


def test_what_the_worker_dropped_is_told(deliver: Deliver, store: Store) -> None:
    """Messages given up at the edge are among the missing, and named as the Worker's."""
    deliver(sent(0), sent(3, dropped_count=2))
    assert health(store) == [(4, 2, 0, 2, 2, 1, 0)]


def test_duplicates_and_late_ones(deliver: Deliver, store: Store) -> None:
    """A redelivery counts as one; a message that landed over an hour after it was sent is late."""
    deliver(sent(0), sent(0), sent(1, hours_ago=3.5))
    assert health(store) == [(1, 1, 0, 0, 0, 1, 1), (1, 1, 1, 0, 0, 0, 0)]


def test_the_tail_is_bounded(deliver: Deliver, store: Store) -> None:
    """Two messages a second, for ten seconds: what 13 s more would bring, and one. A single message: one."""
    deliver(*(sent(seq, hours_ago=(100 - seq / 2) / 3600) for seq in range(21)), sent(0, isolate="two"))
    assert ask(store, "select sum(open_stream_count), sum(unconfirmed_count) from delivery_health") == [(2, 1 + 26 + 1)]


def test_upstreams_messages_count_as_landed(deliver: Deliver, store: Store) -> None:
    """They have no numbers, so nothing can be missing between them."""
    text = '{"flagAssigned": [{"resolveId": "r", "flags": [{"flag": "flags/a", "defaultAssignment": {}}]}]}'
    deliver(text, text)
    columns = "expected_count, landed_count, duplicate_count, missing_count, open_stream_count, unconfirmed_count"
    assert ask(store, f"select {columns} from delivery_health") == [(1, 1, 1, 0, 0, 0)]
