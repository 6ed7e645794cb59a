"""When a run has to be over: a Lambda is killed at its timeout, so a step that could not end in time is not begun."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from flagedge.errors import FlagedgeError


class OutOfTimeError(FlagedgeError):
    """The time left is not enough for the next step; nothing is half done, the next run goes on."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock; without one there is all the time in the world."""

    at_s: float = math.inf
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        return self.at_s - self.clock()

    def require(self, seconds: float, *, step: str) -> None:
        """Raise OutOfTimeError unless `seconds` are left for `step`."""
        if self.left_s < seconds:
            raise OutOfTimeError(
                f"{max(0.0, self.left_s):.0f} s are left, and to {step} may take {seconds:.0f} s",
                hint="Give the function a longer timeout; the next run begins where this one stopped",
            )


NEVER = Deadline()
