"""Pulls in flight: how many, what they are gathered into, and how they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_queue import Message, pull_response

from flagedge.errors import UnavailableError
from log_consumer.pull import EMPTY_ROUNDS, Puller, read_leases

EMPTY = pull_response()


def answer(number: int = 0) -> str:
    return pull_response(Message(f"{number:08d}", "body", "text", lease_id=f"lease-{number:08d}"))


BYTES = len(answer())


class Answers:
    """A pull that gives `texts` one by one and then empty ones; an error among them is raised."""

    def __init__(self, *texts: str | Exception, pause_s: float = 0.0) -> None:
        self.call_count = self.in_flight = self.peak = 0
        self._texts = iter(texts)
        self._pause_s = pause_s
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self.call_count += 1
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
            text = next(self._texts, EMPTY)
        time.sleep(self._pause_s)
        with self._lock:
            self.in_flight -= 1
        if isinstance(text, Exception):
            raise text
        return text


def puller(pull: Callable[[], str], stop: threading.Event | None = None, **changes: Any) -> Puller:
    options = {"max_concurrent": 4, "max_bytes": 1_000_000, "max_wait_s": 60.0} | changes
    return Puller(pull, stop=stop or threading.Event(), **options)


def batches(pulling: Puller) -> Iterator[tuple[int, bool]]:
    """The number of answers of each batch, and whether the queue had more."""
    while (gathered := pulling.gather()) is not None:
        yield len(gathered.texts), gathered.has_more


def test_answers_are_gathered_until_the_queue_is_empty() -> None:
    """One batch when all of it fits, every answer once."""
    texts = [answer(number) for number in range(50)]
    with puller(Answers(*texts)) as pulling:
        gathered = pulling.gather()
        assert gathered is not None
        assert sorted(gathered.texts) == texts
        assert not gathered.has_more
        assert pulling.gather() is None


@pytest.mark.parametrize("max_concurrent", [1, 4])
def test_a_batch_ends_at_its_bytes(max_concurrent: int) -> None:
    """No batch is larger than the bound, and all but the last say that there is more."""
    pull = Answers(*(answer(number) for number in range(25)))
    with puller(pull, max_bytes=10 * BYTES, max_concurrent=max_concurrent) as pulling:
        assert list(batches(pulling)) == [(10, True), (10, True), (5, False)]


def test_an_answer_larger_than_a_batch_is_one() -> None:
    """The bound is no reason not to go on."""
    with puller(Answers(*(answer(number) for number in range(3))), max_bytes=1) as pulling:
        assert [count for count, _ in batches(pulling)] == [1, 1, 1]


def test_a_batch_does_not_wait_for_ever_to_become_full() -> None:
    """Once the wait is over, what is there is handed out."""
    blocked = threading.Event()
    texts = iter([answer(0)])

    def pull() -> str:
        text = next(texts, None)
        if text is None:
            blocked.wait(10)
        return text or EMPTY

    with puller(pull, max_wait_s=0.05) as pulling:
        gathered = pulling.gather()
        blocked.set()
    assert gathered is not None
    assert (len(gathered.texts), gathered.has_more) == (1, True)


def test_pulls_in_flight_grow_to_their_number_and_no_further() -> None:
    """A backlog is pulled by all, an empty queue by one at a time."""
    busy, idle = Answers(*[answer()] * 60, pause_s=0.005), Answers()
    with puller(busy) as pulling:
        assert sum(count for count, _ in batches(pulling)) == 60
    with puller(idle) as pulling:
        assert pulling.gather() is None
    assert (busy.peak, idle.peak, idle.call_count) == (4, 1, EMPTY_ROUNDS)


def test_no_more_than_a_batch_is_pulled_ahead() -> None:
    """While a batch is loaded the next one is gathered, and then pulling waits."""
    pull = Answers(*[answer()] * 100)
    with puller(pull, max_bytes=10 * BYTES) as pulling:
        pulling.gather()
        deadline_s = time.monotonic() + 5
        while pull.call_count < 20 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        time.sleep(0.05)
        assert pull.call_count == 20


def test_a_failed_pull_is_raised_after_what_others_brought() -> None:
    """What is leased already is loaded; then the run ends."""
    with puller(Answers(answer(0), answer(1), UnavailableError("gone"), answer(2)), max_concurrent=1) as pulling:
        gathered = pulling.gather()
        assert gathered is not None
        assert gathered.texts == (answer(0), answer(1))
        with pytest.raises(UnavailableError, match="gone"):
            pulling.gather()


def test_nothing_is_pulled_once_it_shall_stop() -> None:
    """What is in flight then is still handed out."""
    stop = threading.Event()
    pull = Answers(*[answer()] * 100)

    def stopping() -> str:
        text = pull()
        if pull.call_count == 3:
            stop.set()
        return text

    with puller(stopping, stop, max_concurrent=1) as pulling:
        assert list(batches(pulling)) == [(3, True)]
    assert pull.call_count == 3


@pytest.mark.parametrize("text", ["", "<html>", "null", "{}", '{"result": null}', '{"result": {"messages": null}}'])
def test_what_is_no_answer_is_not_empty(text: str) -> None:
    """It is handed out, for decode() to refuse it."""
    with puller(Answers(text)) as pulling:
        gathered = pulling.gather()
    assert gathered is not None
    assert gathered.texts == (text,)


def test_a_body_that_looks_like_an_envelope_makes_no_difference() -> None:
    """An answer with messages is known by its own key, whatever the bodies say."""
    body = '{"result": {"messages": []}}, "lease_id"'
    full = pull_response(Message("1", body, "text", lease_id="lease"))
    with puller(Answers(full)) as pulling:
        assert list(batches(pulling)) == [(1, False)]


def test_what_is_unfinished_is_the_last_batch_and_what_came_after_it() -> None:
    """What a caller had before it asked again is done with."""
    pulling = puller(Answers(answer(1), answer(2), answer(3)), max_bytes=BYTES, max_concurrent=1)
    with pulling:
        assert pulling.gather() is not None
        assert pulling.gather() is not None
    leases = [lease for text in pulling.unfinished for lease in read_leases(text)]
    assert leases == [("lease-00000002", 0), ("lease-00000003", 0)]


def test_what_is_no_answer_has_no_leases() -> None:
    """Its messages, if there are any, come when their leases end."""
    assert [read_leases(text) for text in ("", "[]", "{", '{"result": null}', '{"result": {"messages": [{}]}}')] == [
        []
    ] * 5
