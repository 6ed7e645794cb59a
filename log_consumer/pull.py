"""Pulls: several in flight, their answers gathered into batches.

How many are in flight follows what comes back: one more after every answer with messages, none after an empty one. So
a quiet queue is asked seldom and a backlog gets all. While a batch is loaded, the next one is gathered.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

# A pull may come back empty while the queue is not, so one says little; nor does the backlog that the answer names.
EMPTY_ROUNDS = 3
EMPTY_ROUND_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class Gathered:
    """Answers for one batch, as they came; `has_more` unless the queue gave an empty answer meanwhile."""

    texts: tuple[str, ...]
    has_more: bool


class Puller:
    """Calls `pull` from up to `max_concurrent` threads, ahead of the caller by one batch at most.

    A batch ends at `max_bytes` (of text; a larger answer makes a batch alone), `max_wait_s` after its first answer, or
    when the queue has no more: when `empty_rounds` pulls in a row were empty. Once `stop` is set nothing is pulled any
    more.
    """

    def __init__(
        self,
        pull: Callable[[], str],
        *,
        max_concurrent: int,
        max_bytes: int,
        max_wait_s: float,
        stop: threading.Event,
        empty_rounds: int = EMPTY_ROUNDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pull = pull
        self._max_concurrent = max_concurrent
        self._max_bytes = max_bytes
        self._max_wait_s = max_wait_s
        self._stop = stop
        self._empty_rounds = empty_rounds
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_concurrent, thread_name_prefix="pull")
        # Guards all that follows, and tells of an answer.
        self._answered = threading.Condition()
        self._texts: list[str] = []
        self._handed_out: tuple[str, ...] = ()
        self._bytes = 0
        self._last_bytes = 0
        self._first_at_s = 0.0
        self._in_flight = 0
        self._allowed = 0
        self._failure: BaseException | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the pulls in flight come back; what they bring is unfinished."""
        with self._answered:
            self._is_closed = True
        self._threads.shutdown()

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Once the block was left: the batch that was not done with, if any, and the answers that came after it."""
        return self._handed_out + tuple(self._texts)

    def gather(self) -> Gathered | None:
        """The next batch, the one before being done with; None when the queue looks empty or nothing shall be pulled.

        Raises what a pull raised, after what others brought was handed out.
        """
        self._handed_out = ()
        for round_no in range(self._empty_rounds):
            if round_no:
                self._stop.wait(EMPTY_ROUND_PAUSE_S * 2 ** (round_no - 1) * random.uniform(0.5, 1.5))  # noqa: S311
            with self._answered:
                self._allowed = max(self._allowed, 1)
                self._start_pulls()
                while not self._is_ready():
                    self._answered.wait(self._left_s())
                if self._texts:
                    return self._hand_out()
                if self._failure is not None:
                    raise self._failure
        return None

    def _is_ready(self) -> bool:
        return self._in_flight == 0 or self._left_s() == 0

    def _left_s(self) -> float | None:
        """How long a batch may still wait for more; None, for ever, while there is nothing to wait with."""
        return max(0.0, self._first_at_s + self._max_wait_s - self._clock()) if self._texts else None

    def _hand_out(self) -> Gathered:
        self._handed_out = tuple(self._texts)
        gathered = Gathered(self._handed_out, has_more=self._allowed > 0)
        self._texts, self._bytes = [], 0
        self._start_pulls()
        return gathered

    def _has_room(self) -> bool:
        """Whether another answer fits beside those in flight; the last one says how large they will be."""
        return self._bytes + (self._in_flight + 1) * self._last_bytes <= self._max_bytes

    def _start_pulls(self) -> None:
        is_ending = self._failure is not None or self._is_closed or self._stop.is_set()
        while (
            self._in_flight < self._allowed
            and (self._has_room() or self._in_flight + len(self._texts) == 0)
            and not is_ending
        ):
            self._in_flight += 1
            self._threads.submit(self._pull_once)

    def _pull_once(self) -> None:
        text, failure = "", None
        try:
            text = self._pull()
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the thread that gathers raises it
            failure = exc
        is_empty = _is_empty(text)
        with self._answered:
            self._in_flight -= 1
            if failure is not None:
                self._failure = failure
            elif is_empty:
                self._allowed = 0
            else:
                self._add(text)
            self._start_pulls()
            self._answered.notify()

    def _add(self, text: str) -> None:
        if not self._texts:
            self._first_at_s = self._clock()
        self._texts.append(text)
        self._bytes += len(text)
        self._last_bytes = len(text)
        self._allowed = min(self._allowed + 1, self._max_concurrent)


def read_leases(text: str) -> list[tuple[str, int]]:
    """The lease and the number of deliveries of each message of an answer; none when it is no answer."""
    try:
        return [(str(each["lease_id"]), int(each["attempts"])) for each in _read_messages(text)]
    except (ValueError, KeyError, TypeError):
        return []


def halve(texts: Sequence[str]) -> list[Sequence[str]]:
    """The messages of answers in two parts, which are answers too; in one where there is a single message, or none."""
    if len(texts) > 1:
        return [texts[: len(texts) // 2], texts[len(texts) // 2 :]]
    messages = _read_messages(texts[0])
    if len(messages) < 2:
        return [texts]
    return [[write_answer(messages[: len(messages) // 2])], [write_answer(messages[len(messages) // 2 :])]]


def write_answer(messages: Sequence[dict[str, Any]]) -> str:
    """Messages as a pull brings them."""
    return json.dumps({"result": {"messages": messages}})


def _read_messages(text: str) -> list[dict[str, Any]]:
    try:
        messages = json.loads(text)["result"]["messages"]
    except (ValueError, KeyError, TypeError):
        return []
    return messages if isinstance(messages, list) else []


def _is_empty(text: str) -> bool:
    """Whether an answer holds no message; what is no answer at all is not empty, and refused when it is decoded."""
    # A quote inside a message's body is escaped, so this finds the envelope's own key alone.
    if '"lease_id"' in text:
        return False
    try:
        return bool(json.loads(text)["result"]["messages"] == [])
    except (ValueError, KeyError, TypeError):
        return False
