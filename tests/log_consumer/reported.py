"""A database with experiments of known truth, and the page that is written of it."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from experiments import Experiment, enter_messages, plant

from log_consumer.report.write import Reported, report
from log_consumer.store import Reader, Store

NOW = datetime(2026, 11, 15, 6)  # noqa: DTZ001 - the database's timestamps are UTC without saying so.
EVIL = "</script><script>hacked = 1</script><img src=x onerror='hacked = 1'>\"';drop table rolls;--\u2028\u202e\x1b${1}"
EXPERIMENTS = (
    Experiment("well", unit_count=4000),
    Experiment("lost", unit_count=40_000, lost=0.15, seed=2),
    Experiment("crossed", unit_count=4000, crossing=0.03, seed=3),
    Experiment("leaked", unit_count=4000, leaked=0.01, seed=4),
    Experiment("changed", unit_count=8000, shares=(0.9, 0.1), after=(0.5, 0.5), seed=5),
    Experiment(EVIL, unit_count=1000, seed=6, crossing=0.03, leaked=0.01),
)


@dataclass(frozen=True)
class Written:
    """What was made of it: a database, the page of it, and its text."""

    database: str
    page: Path
    text: str
    done: Reported

    def section(self, flag: str) -> str:
        """The part of the page about the rule of a flag."""
        sections = re.split(r'(?=<section id="experiment-)', self.text)
        return next(
            each for each in sections if f'-name"><bdi>{html.escape(flag)}</bdi></h2>' in each.split("</header>")[0]
        )

    def queries(self) -> list[str]:
        """Every SQL that the page shows."""
        return [html.unescape(each) for each in re.findall(r"<code>(--.*?)</code></pre>", self.text, re.DOTALL)]


def make_database(database: str, *experiments: Experiment) -> None:
    """Tables with these experiments; every name that is EVIL's has variants and units of that name, too."""
    with Store(database) as store, store.transaction() as connection:
        for experiment in experiments:
            plant(connection, experiment)
        enter_messages(connection)
        for table in ("exposures", "allocations"):
            connection.execute(
                f"update {table} set assignment_id = flag || '/variants/' || $1, variant = flag || '/variants/' || $1"
                " where assignment_id = 'treatment' and flag = $2",
                [EVIL, f"flags/{EVIL}"],
            )
        connection.execute(
            "update exposures set targeting_key = $1 || targeting_key where flag = $2", [EVIL, f"flags/{EVIL}"]
        )


def write(database: str, page: Path, *, rule: str | None = None, since: datetime | None = None) -> Written:
    with Reader(database) as reader:
        done = report(reader, database, str(page), rule=rule, since=since, now=NOW)
    return Written(database, page, page.read_text(), done)
