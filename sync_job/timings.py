"""How long the steps of a run take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class Timings:
    """Milliseconds by step, in the order in which they began; a step that is done twice counts together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        began_s = self._clock()
        self._seconds.setdefault(step, 0.0)
        try:
            yield
        finally:
            self._seconds[step] += self._clock() - began_s

    def to_ms(self) -> Mapping[str, int]:
        return {step: round(1000 * seconds) for step, seconds in self._seconds.items()}
