"""Metrics in CloudWatch's embedded metric format: keys of a log line that CloudWatch turns into metrics.

Source: the embedded metric format's specification (a JSON log line with `_aws`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

NAMESPACE = "flagedge"


def embed_metrics(
    *, seconds: Mapping[str, float] | None = None, counts: Mapping[str, int], dimensions: Mapping[str, str]
) -> dict[str, Any]:
    """Keys for one log line that hold these values, by name, under the dimensions that are not empty."""
    dimensions = {name: value for name, value in dimensions.items() if value}
    units = [(name, "Seconds") for name in seconds or {}] + [(name, "Count") for name in counts]
    metrics = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in units],
    }
    return {
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [metrics]},
        **dimensions,
        **(seconds or {}),
        **counts,
    }
