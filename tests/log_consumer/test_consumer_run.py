"""`run` goes on for ever and survives; forwarding and dead letters are part of every drain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import duckdb
import pytest
from fake_confidence import OK, FakeConfidence, answer
from fake_queue import FakeQueue
from messages import body, decided, request
from structlog.testing import capture_logs

from flagedge.errors import SettingsError, UnavailableError
from flagedge.settings import Secret
from log_consumer import job
from log_consumer.job import Summary, run
from log_consumer.settings import ForwardSettings, Settings


@pytest.fixture
def confidence() -> Iterator[FakeConfidence]:
    with FakeConfidence() as running:
        yield running


@pytest.fixture
def forwarding(settings: Settings, confidence: FakeConfidence) -> Settings:
    """Settings that forward to the fake."""
    forward = ForwardSettings(
        destinations=("edge",), client_secret=Secret("client-secret"), edge_url=confidence.edge_url
    )
    return replace(settings, forward=forward)


def rows(database: Any, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def units(*names: str) -> list[str]:
    return [body(request(decided(unit=name)), seq=seq) for seq, name in enumerate(names)]


class Runner:
    """`run` in a thread of its own, until it is stopped."""

    def __init__(self, settings: Settings, queue: FakeQueue) -> None:
        self.stop = threading.Event()
        self.summary: Summary | None = None
        self._thread = threading.Thread(target=self._run, args=(settings, queue))
        self._thread.start()

    def _run(self, settings: Settings, queue: FakeQueue) -> None:
        self.summary = run(settings, queue, stop=self.stop, forever=True)

    def end(self) -> Summary:
        self.stop.set()
        self._thread.join(20)
        assert self.summary is not None
        return self.summary


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.fixture
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "IDLE_FIRST_S", 0.01)


# --- for ever --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_short_pauses")
def test_run_takes_what_comes_later(settings: Settings) -> None:
    queue = FakeQueue(*units("a", "b"))
    runner = Runner(replace(settings, idle_max_ms=100), queue)
    wait_until(lambda: not queue.messages)
    queue.send(body(seq=7))
    wait_until(lambda: not queue.messages)
    assert runner.end().loaded_count == 3


@pytest.mark.usefixtures("_short_pauses")
def test_run_survives_what_passes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is away is told, and the queue is asked again."""
    queue = FakeQueue(*units("a"))
    faults = iter([UnavailableError("no network"), UnavailableError("no network")])
    pull = queue.pull_messages

    def failing(*arguments: Any, **options: Any) -> str:
        if fault := next(faults, None):
            raise fault
        return pull(*arguments, **options)

    monkeypatch.setattr(queue, "pull_messages", failing)
    with capture_logs() as logs:
        runner = Runner(replace(settings, idle_max_ms=100), queue)
        wait_until(lambda: not queue.messages)
        assert runner.end().loaded_count == 1
    assert [line["error"] for line in logs if line["event"] == "drain.interrupted"] == ["no network"] * 2


def test_run_ends_at_wrong_settings(forwarding: Settings) -> None:
    """What no waiting mends ends it."""
    wrong = replace(forwarding.forward, edge_url="http://confidence.example")
    with pytest.raises(SettingsError, match="https://"):
        run(replace(forwarding, forward=wrong), FakeQueue(), forever=True)


def test_a_quiet_queue_is_asked_ever_more_seldom(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a second on the pauses double to the most, one pull each; messages begin it anew."""
    pauses: list[float] = []
    queue = FakeQueue()
    stop = threading.Event()

    def wait(seconds: float) -> bool:
        if seconds:  # between two passes, not between two pulls of one
            pauses.append(seconds)
            if len(pauses) == 3:
                queue.send(body())
            if len(pauses) == 5:
                stop.set()
        return stop.is_set()

    monkeypatch.setattr(stop, "wait", wait)
    monkeypatch.setattr("random.uniform", lambda low, high: 1.0)
    run(replace(settings, idle_max_ms=6_000), queue, stop=stop, forever=True)
    assert pauses == [2.0, 4.0, 6.0, 1.0, 2.0]


# --- forwarding ------------------------------------------------------------------------------------------------------


def test_what_landed_is_forwarded_in_the_same_run(forwarding: Settings, confidence: FakeConfidence) -> None:
    summary = run(forwarding, FakeQueue(*units("a", "b", "c")))
    assert confidence.taken_units == ["a", "b", "c"]
    assert summary.facts()["forwarded_delivered_count"] == 3
    assert rows(forwarding.database, "select count(*) from outbox") == [(0,)]
    assert rows(forwarding.database, "select count(*) from exposures") == [(3,)]


def test_confidence_down_costs_no_row_and_no_ack(
    forwarding: Settings, confidence: FakeConfidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is emptied as ever; what waits goes out by a later run, a redelivery does not send it twice."""
    monkeypatch.setattr(job, "FORWARD_PATIENCE_S", 0.0)
    confidence.respond = lambda _: answer(503, headers={"retry-after": "3600"})
    queue = FakeQueue(*units("a", "b"))
    run(forwarding, queue)
    assert queue.messages == []
    assert rows(forwarding.database, "select count(*) from outbox") == [(2,)]
    confidence.respond = lambda _: OK
    with duckdb.connect(str(forwarding.database)) as connection:
        connection.execute("update outbox set next_at = null")  # an hour later
    run(forwarding, FakeQueue(*units("a", "b")))
    assert confidence.taken_units == ["a", "b"]
    assert rows(forwarding.database, "select count(*) from outbox") == [(0,)]


def test_off_keeps_no_texts(settings: Settings) -> None:
    run(settings, FakeQueue(*units("a")))
    assert rows(settings.database, "select count(*) from outbox") == [(0,)]


# --- rolls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "count"), [("drain", 1), ("maintain", 0)])
def test_exposures_are_rolled_once_the_queue_is_empty(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, when: str, count: int
) -> None:
    """One roll at the end, however many batches there were, or none where maintaining sees to it."""
    monkeypatch.setattr("log_consumer.rolls.OPEN_MIN", 2)
    run(replace(settings, rolls_when=when, batch_max_bytes=1, pull_batch_size=1), FakeQueue(*units("a", "b", "c")))
    assert rows(settings.database, "select count(*) from rolls") == [(count,)]
    assert rows(settings.database, "select count(*) from unit_exposures") == [(3,)]
