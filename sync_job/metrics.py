"""Metrics of a run in CloudWatch's embedded metric format: keys of a log line that CloudWatch turns into metrics.

Source: the embedded metric format's specification (a JSON log line with `_aws`).
"""

from __future__ import annotations

import time
from typing import Any

NAMESPACE = "flagedge"


def run_metrics(
    outcome: str, duration_s: float, *, worker_name: str = "", state_age_s: int | None = None
) -> dict[str, Any]:
    """Keys for one log line: duration, the state's age, and how the run ended, a metric for each way to alarm on."""
    counts = {name: int(outcome == name) for name in ("deployed", "unchanged", "held", "failed")}
    values: dict[str, float] = {"run_duration": round(duration_s, 3)}
    if state_age_s is not None:
        values["state_age"] = state_age_s
    names = [{"Name": name, "Unit": "Seconds"} for name in values]
    names += [{"Name": f"run_{name}", "Unit": "Count"} for name in counts]
    dimensions = ["worker_name"] if worker_name else []
    metrics = {"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": names}
    return {
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [metrics]},
        **({"worker_name": worker_name} if worker_name else {}),
        **values,
        **{f"run_{name}": count for name, count in counts.items()},
    }
