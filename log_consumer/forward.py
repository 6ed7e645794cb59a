"""Forwards what landed to Confidence, as the official Worker's queue consumer does: at least once, beside the drain.

    outbox → read (rebuild) → add up → encode → offer to the primary destination, else to the fallback → outbox

A message leaves the outbox after a destination took it, never before: a crash between the two has it delivered again.
What one destination cannot take the next is offered; what none takes waits and is tried again, and never holds others
back: a group that is too large is cut, one that is refused is halved until the message is found, and so is one that
fails again and again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import NamedTuple, Self

import structlog

from flagedge.errors import DecodeError, FlagedgeError
from log_consumer.clock import utc_now
from log_consumer.destination import Destination, Failure, Fault, backoff_s
from log_consumer.flag_logs import FlagLogs, add_up
from log_consumer.outbox import Attempt, Delivered, Failed, Message, Outbox, Report
from log_consumer.rebuild import read_message

# How long a message waits that nobody took: after a passing failure, so that others have their turn, and after it was
# refused. Each is the first wait and the longest.
RETRY_S, RETRY_MAX_S = 5.0, 300.0
REFUSED_RETRY_S, REFUSED_RETRY_MAX_S = 60.0, 3600.0
# After so many attempts bodies are smaller, half for each one more: a message that makes its reader fail is found so.
WHOLE_ATTEMPTS = 3
# Bytes of body for a byte of a message's text, until a body was made.
EXPANSION = 4.0
TAKEN_BYTES = 8_000_000
# After an error that has nothing to do with Confidence: a database that somebody holds.
ERROR_PAUSE_S = 30.0

log = structlog.stdlib.get_logger()


class _Read(NamedTuple):
    """A message and what it says."""

    message: Message
    logs: FlagLogs


@dataclass(frozen=True, slots=True)
class _Answer:
    """Who took a body, or why those that were asked did not; neither when there was nobody to ask."""

    taken_by: str = ""
    failures: tuple[Failure, ...] = ()
    body_bytes: int = 0

    def blames(self, *faults: Fault) -> bool:
        return not self.taken_by and any(failure.fault in faults for failure in self.failures)


class Courier:
    """Brings messages to the first of `destinations` that takes them, up to `max_concurrent` bodies at a time.

    A body has up to `max_bytes`, unless there is nothing left to cut. A message that was refused `max_refusals` times,
    by every destination, is parked.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        *,
        max_bytes: int = 1_000_000,
        max_concurrent: int = 4,
        max_refusals: int = 8,
    ) -> None:
        self._destinations = destinations
        self._max_bytes = max_bytes
        self._max_concurrent = max_concurrent
        self._max_refusals = max_refusals
        self._threads = ThreadPoolExecutor(max_concurrent, thread_name_prefix="forward")
        self._expansion = EXPANSION
        # Bodies at a time; 0 is one, to see whether it is taken: nobody is flooded who has just got up.
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        for destination in self._destinations:
            destination.close()

    @property
    def wait_s(self) -> float:
        """How long there is nobody to ask; 0 when there is."""
        return min(destination.wait_s for destination in self._destinations)

    @property
    def wanted_bytes(self) -> int:
        """How much text the next delivery should have."""
        return TAKEN_BYTES if self._width == self._max_concurrent else max(1, self._width) * self._text_bytes

    @property
    def _text_bytes(self) -> int:
        """How much text makes a body, with some room: what is too large is made twice."""
        return max(1, min(TAKEN_BYTES, int(0.8 * self._max_bytes / self._expansion)))

    def deliver(self, messages: Sequence[Message], *, stop: threading.Event) -> Report:
        """Offer each message once, or one body, to see whether it is taken.

        Those that were not offered, or that nobody was there for, or not before `stop`, are not in the report.
        """
        report = Report()
        groups = islice(self._groups(messages), None if self._width else 1)
        for part in self._threads.map(lambda group: self._deliver_group(group, stop), groups):
            report.add(part)
        is_failing = bool(report.attempts) and not report.delivered
        self._width = 0 if is_failing else min(max(1, 2 * self._width), self._max_concurrent)
        return report

    def _groups(self, messages: Sequence[Message]) -> Iterator[list[Message]]:
        """Messages that make a body; those that were refused or failed before are not to cost others theirs."""
        alike: dict[tuple[bool, int], list[Message]] = {}
        for message in messages:
            halvings = max(0, message.attempt_count - WHOLE_ATTEMPTS)
            alike.setdefault((message.refused_count > 0, halvings), []).append(message)
        for (_, halvings), some in sorted(alike.items()):
            yield from _pack(some, max_bytes=self._text_bytes >> halvings)

    def _deliver_group(self, messages: Sequence[Message], stop: threading.Event) -> Report:
        report, read = Report(), []
        for message in messages:
            try:
                read.append(_Read(message, read_message(message.text)))
            except DecodeError as exc:
                report.failed.append(Failed(message, str(exc), is_refused=True, is_parked=True))
                report.attempts.append(Attempt(None, str(exc), 1))
        if read:
            self._deliver_read(read, report, stop)
        return report

    def _deliver_read(self, group: Sequence[_Read], report: Report, stop: threading.Event) -> None:
        """Deliver as one body; where that is too large, or refused, as two halves."""
        if stop.is_set():
            return
        logs = add_up(read.logs for read in group)
        if logs.is_empty:
            report.delivered += [Delivered(read.message, None) for read in group]
            return
        if len(group) == 1:
            answer = self._deliver_alone(logs, report)
        else:
            answer = self._offer(logs, report, count=len(group), can_cut=True)
            if answer.blames(Fault.TOO_LARGE, Fault.BODY):
                middle = len(group) // 2
                self._deliver_read(group[:middle], report, stop)
                self._deliver_read(group[middle:], report, stop)
                return
        if answer.taken_by:
            report.delivered += [Delivered(read.message, answer.taken_by) for read in group]
            self._expansion = answer.body_bytes / sum(len(read.message.text) for read in group)
        elif answer.failures:
            report.failed += self._fail([read.message for read in group], answer)

    def _deliver_alone(self, logs: FlagLogs, report: Report) -> _Answer:
        """Deliver a message, in pieces if need be; the first piece that fails is what became of it."""
        halves = logs.halve()
        answer = self._offer(logs, report, count=1, can_cut=halves is not None)
        if halves is None or not answer.blames(Fault.TOO_LARGE):
            return answer
        body_bytes = 0
        for half in halves:
            answer = self._deliver_alone(half, report)
            if not answer.taken_by:
                return answer
            body_bytes += answer.body_bytes
        return _Answer(answer.taken_by, body_bytes=body_bytes)

    def _offer(self, logs: FlagLogs, report: Report, *, count: int, can_cut: bool) -> _Answer:
        """Offer to one destination after the other, leaving out those that are left in peace."""
        failures = []
        for destination in self._destinations:
            if destination.wait_s:
                continue
            body = destination.encode(logs)
            if can_cut and len(body) > self._max_bytes:
                return _Answer(failures=(Failure(Fault.TOO_LARGE, "too large"),))
            failure = destination.offer(body)
            if failure is None:
                return _Answer(destination.name, body_bytes=len(body))
            failures.append(failure)
            report.attempts.append(Attempt(destination.name, failure.reason, count))
        return _Answer(failures=tuple(failures))

    def _fail(self, messages: Sequence[Message], answer: _Answer) -> Iterator[Failed]:
        """They are refused only where nobody is left who might take them; they wait for each other, to go together."""
        failures = answer.failures
        is_refused = len(failures) == len(self._destinations) and not answer.blames(Fault.PASSING)
        limits = (REFUSED_RETRY_S, REFUSED_RETRY_MAX_S) if is_refused else (RETRY_S, RETRY_MAX_S)
        wait_s = backoff_s(max(message.attempt_count for message in messages), *limits)
        wait_s = max(wait_s, *(failure.retry_after_s for failure in failures))
        for message in messages:
            is_parked = is_refused and message.refused_count + 1 >= self._max_refusals
            yield Failed(message, failures[0].reason, wait_s=wait_s, is_refused=is_refused, is_parked=is_parked)


def _pack(messages: Sequence[Message], *, max_bytes: int) -> Iterator[list[Message]]:
    """The messages in order, in groups of so much text, one at the least."""
    group: list[Message] = []
    group_bytes = 0
    for message in messages:
        if group and group_bytes + len(message.text) > max_bytes:
            yield group
            group, group_bytes = [], 0
        group.append(message)
        group_bytes += len(message.text)
    if group:
        yield group


@dataclass(slots=True)
class Forwarded:
    """What forwarding did. `failed_count` are messages by attempt, and some of them were delivered later."""

    delivered_count: int = 0
    failed_count: int = 0
    parked_count: int = 0

    def add(self, report: Report) -> None:
        self.delivered_count += len(report.delivered)
        self.failed_count += len(report.failed)
        self.parked_count += sum(failed.is_parked for failed in report.failed)

    def facts(self) -> dict[str, int]:
        """As flat keys, for the log and for `--json`."""
        return {f"forwarded_{name}": getattr(self, name) for name in self.__slots__}


def forward(
    outbox: Outbox,
    courier: Courier,
    summary: Forwarded,
    *,
    stop: threading.Event,
    now: Callable[[], datetime] = utc_now,
) -> float | None:
    """Deliver what is due until nothing is, nobody is there to take it, or `stop` is set; `summary` is added to.

    Answers with the seconds after which there may be more to do, None for not before something lands. Raises LocalError
    when the database cannot be had.
    """
    report, turn = Report(), None
    while True:
        may_go_on = not stop.is_set() and courier.wait_s == 0
        if not (may_go_on or turn):
            break
        turn = outbox.turn(report, now=now(), max_bytes=courier.wanted_bytes if may_go_on else 0)
        if not turn.messages:
            break
        report = courier.deliver(turn.messages, stop=stop)
        summary.add(report)
        _log_report(report)
    if stop.is_set():
        return None
    if wait_s := courier.wait_s:
        return wait_s
    return None if turn is None or turn.next_at is None else max(0.0, (turn.next_at - now()).total_seconds())


class Forwarder:
    """Forwards in a thread of its own, beside the drain that fills the outbox.

    After the block it goes on until nothing is due, waiting `patience_s` in all for destinations that fail; once `stop`
    is set it only finishes what is on its way. What it cannot do is left for the next run, and never fails the drain.
    """

    def __init__(
        self,
        outbox: Outbox,
        courier: Courier,
        *,
        stop: threading.Event,
        patience_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.summary = Forwarded()
        self._outbox = outbox
        self._courier = courier
        self._stop = stop
        self._patience_s = patience_s
        self._clock = clock
        self._called = threading.Condition()
        self._is_woken = False
        self._ends_at_s: float | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="forwarder")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None:
            self._stop.set()
        with self._called:
            self._ends_at_s = self._clock() + self._patience_s
            self._called.notify()
        self._thread.join()
        log.info("forwarding.finished", **self.summary.facts())
        if exc is None and self._failure is not None:
            raise self._failure

    def wake(self) -> None:
        """Something landed."""
        with self._called:
            self._is_woken = True
            self._called.notify()

    def _run(self) -> None:
        try:
            while self._goes_on(self._forward()):
                pass
        except BaseException as exc:  # noqa: BLE001 - raised again when the block ends
            self._failure = exc

    def _forward(self) -> float | None:
        try:
            return forward(self._outbox, self._courier, self.summary, stop=self._stop)
        except FlagedgeError as exc:
            log.warning("forwarding.interrupted", error=str(exc), pause_ms=round(ERROR_PAUSE_S * 1000))
            return ERROR_PAUSE_S

    def _goes_on(self, wait_s: float | None) -> bool:
        """Wait until there may be something to do; False when that is left to the next run."""
        with self._called:
            self._called.wait_for(lambda: self._is_woken or self._ends_at_s is not None, wait_s)
            self._is_woken, woken = False, self._is_woken
        if self._ends_at_s is None or woken:
            return True
        if wait_s is None or self._clock() + wait_s > self._ends_at_s:
            return False
        return not self._stop.wait(wait_s)


def _log_report(report: Report) -> None:
    log.debug("messages.forwarded", delivered_count=len(report.delivered), failed_count=len(report.failed))
    if parked := [failed for failed in report.failed if failed.is_parked]:
        log.warning("messages.parked", parked_count=len(parked), reason=parked[0].error)
