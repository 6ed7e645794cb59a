"""The views as they are at one moment, each worked out once.

A temporary table is found before a view of the same name, also by the views that read it. So every query of the page
reads what is worked out already, and all of them see the same rows; the same text gives the same outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import duckdb

# Each after those that it reads.
VIEWS = (
    "analysis_settings",
    "allocation_epochs",
    "epoch_shares",
    "unit_counts",
    "variant_shares",
    "srm",
    "srm_sequential",
    "srm_by",
    "crossovers",
    "leaks",
    "late_exposures",
    "duplicate_rate",
    "delivery_health",
    "exposures_over_time",
    "checks",
    "experiment_health",
)


@contextmanager
def take_snapshot(connection: duckdb.DuckDBPyConnection, *, now: datetime) -> Iterator[None]:
    """Hold the views as of `now` (UTC, naive); nothing is left of it afterwards. Raises duckdb.Error."""
    connection.execute("begin")
    try:
        connection.execute("set variable as_of = $now::timestamp", {"now": now})
        for name in VIEWS:
            connection.execute(f"create temporary table {name} as from {name}")
        yield
    finally:
        connection.execute("reset variable as_of")
        with suppress(duckdb.Error):  # an error has ended the transaction
            connection.execute("rollback")
