"""docs/analytics.md: its queries run, and its contract is what the views have."""

from __future__ import annotations

import re
from pathlib import Path

from deliveries import ask
from experiments import Experiment, enter_messages, plant

from log_consumer.store import Store

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/analytics.md").read_text()
VIEWS = {path.stem for path in (REPOSITORY / "log_consumer/sql/views").glob("*.sql")}
# What only the others are made of.
INTERNAL = {"open_roll", "touched_units"}


def test_every_query_runs(store: Store) -> None:
    """There are ten questions, and each has its query."""
    with store.transaction() as connection:
        plant(connection, Experiment(shares=(0.9, 0.1), after=(0.5, 0.5), crossing=0.01, leaked=0.01, lost=0.5))
        enter_messages(connection)
    blocks = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == len(re.findall(r"^\*\*\d+\. ", PAGE, re.MULTILINE)) == 10
    for query in (query for block in blocks for query in block.split(";")):
        ask(store, query)


def test_the_contract(store: Store) -> None:
    """Every view that is meant for others, with its columns in order."""
    [(version,)] = ask(store, "select version from contract")
    assert f"## Contract, version {version}\n" in PAGE
    promised = dict(re.findall(r"^- `(\w+)`: (.*)$", PAGE, re.MULTILINE))
    assert promised.keys() == VIEWS - INTERNAL
    for view, columns in promised.items():
        assert [row[0] for row in ask(store, f"describe {view}")] == columns.split(", "), view
