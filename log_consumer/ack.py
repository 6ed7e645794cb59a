"""Acks: what was committed leaves the queue, several calls at a time, while the next batch is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

# As many as a pull brings; more in one call are promised by nobody.
LEASES_PER_ACK = 100


class Acker:
    """Calls `ack` with up to LEASES_PER_ACK lease ids, from up to `max_concurrent` threads."""

    def __init__(self, ack: Callable[[Sequence[str]], Any], *, max_concurrent: int) -> None:
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

    def ack(self, lease_ids: Sequence[str]) -> None:
        """Send the acks of a batch once those of the one before are answered. Raises what one of those raised."""
        self._finish()
        starts = range(0, len(lease_ids), LEASES_PER_ACK)
        self._sent = [self._threads.submit(self._ack, lease_ids[at : at + LEASES_PER_ACK]) for at in starts]

    def _finish(self) -> None:
        for each in self._sent:
            each.result()
