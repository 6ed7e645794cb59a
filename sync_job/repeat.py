"""`sync-job run --every`: pass after pass, in a container or within one Lambda minute."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

from flagedge.command import exit_code_of


def run_repeatedly(once: Callable[[], None], *, every_s: float, lasting_s: float | None = None) -> int:
    """Call `once` every `every_s` seconds, from start to start; the exit code of the last pass.

    A pass that fails prints its error, and the next one tries again. SIGTERM ends it after the pass under way;
    `lasting_s` before a pass that would begin later than that.
    """
    leave = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: leave.set())
    ends_at_s = None if lasting_s is None else time.monotonic() + lasting_s
    try:
        while True:
            began_s = time.monotonic()
            code = exit_code_of(once)
            next_s = max(began_s + every_s, time.monotonic())
            if code == 2 or (ends_at_s is not None and next_s >= ends_at_s):
                return code
            if leave.wait(next_s - time.monotonic()) or leave.is_set():
                return code
    finally:
        signal.signal(signal.SIGTERM, before)
