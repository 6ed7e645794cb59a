"""How far a run has come, on one line of a terminal that is written over and over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from log_consumer.job import Summary

EVERY_S = 0.5


class Progress:
    """Shows a summary on `stream` at most twice a second; `end` takes the line away."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._started_s = clock()
        self._shown_s = float("-inf")
        self._shown_chars = 0

    def show(self, summary: Summary) -> None:
        now_s = self._clock()
        if now_s - self._shown_s < EVERY_S:
            return
        self._shown_s = now_s
        rate = summary.message_count / max(now_s - self._started_s, 0.001)
        line = f"{summary.message_count:,} messages, {summary.rows['exposures']:,} exposures, {rate:,.0f} messages/s"
        if summary.rejected_count:
            line += f", {summary.rejected_count:,} rejected"
        if summary.backlog_count:
            line += f", about {summary.backlog_count:,} to go"
        self._write(line)

    def end(self) -> None:
        if self._shown_chars:
            self._write("")
            self._stream.write("\r")

    def _write(self, line: str) -> None:
        self._stream.write("\r" + line.ljust(self._shown_chars))
        self._stream.flush()
        self._shown_chars = len(line)
