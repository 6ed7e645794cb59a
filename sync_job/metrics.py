"""What a run measures of itself, for CloudWatch."""

from __future__ import annotations

from typing import Any

from flagedge.metrics import embed_metrics

_OUTCOMES = ("deployed", "published", "stepped", "unchanged", "held", "failed")


def run_metrics(
    outcome: str, duration_s: float, *, worker_name: str = "", state_age_s: int | None = None
) -> dict[str, Any]:
    """Keys for one log line: duration, the state's age, and how the run ended, a metric for each way to alarm on."""
    seconds: dict[str, float] = {"run_duration": round(duration_s, 3)}
    if state_age_s is not None:
        seconds["state_age"] = state_age_s
    counts = {f"run_{name}": int(outcome == name) for name in _OUTCOMES}
    return embed_metrics(seconds=seconds, counts=counts, dimensions={"worker_name": worker_name})
