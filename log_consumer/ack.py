"""Acks: what was committed leaves the queue, several calls at a time, while the next batch is loaded.

What could not be loaded is handed back. A queue deletes what it delivered a hundred times, and a run that fails and is
started every minute would come to that within a day: so a message comes later the more often it came, and a hundred
times take as long as a queue keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

# As many as a pull brings; more in one call are promised by nobody.
LEASES_PER_ACK = 100
# A hundred deliveries take 4 days, and 2 hours go by before the last.
HANDED_BACK_S = 70

Lease = TypeVar("Lease")


class Acker(Generic[Lease]):
    """Calls `ack` with up to LEASES_PER_ACK leases, from up to `max_concurrent` threads."""

    def __init__(self, ack: Callable[[Sequence[Lease]], Any], *, max_concurrent: int) -> None:
        self._ack = ack
        self._threads = ThreadPoolExecutor(max_concurrent, thread_name_prefix="ack")
        self._sent: list[Future[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        if exc is None:  # else what is already on its way says more
            self._finish()

    def ack(self, leases: Sequence[Lease]) -> None:
        """Send the acks of a batch once those of the one before are answered. Raises what one of those raised."""
        self._finish()
        starts = range(0, len(leases), LEASES_PER_ACK)
        self._sent = [self._threads.submit(self._ack, leases[at : at + LEASES_PER_ACK]) for at in starts]

    def _finish(self) -> None:
        for each in self._sent:
            each.result()


def delay_of(attempts: int) -> int:
    """Seconds until a message that came so many times, and could not be loaded, comes again."""
    return attempts * HANDED_BACK_S
