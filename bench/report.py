"""Figures beside their targets, one line each."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and what it has to reach: `at_least` or `at_most`, if there is a target."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def is_missed(self) -> bool:
        too_little = self.at_least is not None and self.value < self.at_least
        too_much = self.at_most is not None and self.value > self.at_most
        return too_little or too_much

    def __str__(self) -> str:
        target = "" if self.at_least is None else f"≥ {self.at_least:g}"
        target = target if self.at_most is None else f"≤ {self.at_most:g}"
        missed = "MISSED" if self.is_missed else ""
        return f"  {self.name:34} {self.value:8.2f} {self.unit:5} {target:8} {missed:7} {self.note}".rstrip()


def describe_machine() -> str:
    """What else there is to know about a run."""
    load = f"load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return f"{os.cpu_count()} cores, {load}"
