"""`log-consumer report`: reads the views and writes the page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from flagedge.errors import LocalError, SettingsError
from log_consumer.databases import Database
from log_consumer.engine import translate_errors
from log_consumer.report.gather import ask, choose_grain, gather_experiment, select_experiments
from log_consumer.report.page import write_page
from log_consumer.report.snapshot import take_snapshot
from log_consumer.rewrite import sync_path
from log_consumer.store import Reader


@dataclass(frozen=True, slots=True)
class Reported:
    """How many experiments are on the page, by verdict, and its size."""

    verdicts: dict[str, int]
    byte_count: int

    def facts(self) -> dict[str, Any]:
        """As keys, for `--json`."""
        return {"verdicts": self.verdicts, "byte_count": self.byte_count}


def report(
    reader: Reader,
    database: Database,
    out: str,
    *,
    rule: str | None = None,
    since: datetime | None = None,
    now: datetime,
) -> Reported:
    """Write the page to `out`, in the place of what was there, at once. `since` and `now` are UTC, naive.

    With `since`, experiments without an exposure from then on are left out, and charts begin there; what is counted
    over a whole experiment still is. Raises SettingsError when there is no such rule, or vl-convert is not installed;
    LocalError when the database cannot be had or `out` not be written.
    """
    with reader.look() as connection, translate_errors(database, "read"), take_snapshot(connection, now=now):
        overview = ask(connection, "experiments")
        _check_rule(rule, [str(row["rule"]) for row in overview.rows])
        rows = select_experiments(overview.rows, rule=rule, since=since)
        experiments = [gather_experiment(connection, row, since=since, now=now) for row in rows]
        begins = min(filter(None, (each.since for each in experiments)), default=now)
        grain = choose_grain(begins, now)
        delivery = ask(connection, "delivery", since=begins, grain=grain)
        checks = ask(connection, "overall_checks")
        alpha = _read_alpha(connection)
    text = write_page(
        experiments, overview=overview, delivery=delivery, grain=grain, checks=checks, alpha=alpha, now=now, since=since
    )
    _write(Path(out), text)
    verdicts: dict[str, int] = {}
    for row in rows:
        verdicts[row["verdict"]] = verdicts.get(row["verdict"], 0) + 1
    return Reported(verdicts, len(text.encode()))


def describe_reported(done: Reported, out: str) -> str:
    """For people."""
    found = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(done.verdicts.items())) or "none"
    count = sum(done.verdicts.values())
    return f"{count:,} experiment{'' if count == 1 else 's'} ({found}) in {out}\n"


def _check_rule(rule: str | None, known: list[str]) -> None:
    if rule is not None and rule not in known:
        hint = "; `log-consumer sql 'select rule from experiment_health'` lists them"
        raise SettingsError([f"--rule {rule}: there is no such rule{hint}"])


def _read_alpha(connection: duckdb.DuckDBPyConnection) -> float:
    row = connection.execute("select srm_alpha from analysis_settings").fetchone()
    return float(row[0]) if row else 0.0


def _write(path: Path, text: str) -> None:
    """A reader sees the page before or this one, and nothing in between."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        sync_path(unfinished)
        unfinished.replace(path)
    except OSError as exc:
        unfinished.unlink(missing_ok=True)
        raise LocalError(
            f"cannot write {path}: {exc.strerror}", hint="--out names a file in a folder that exists"
        ) from exc
