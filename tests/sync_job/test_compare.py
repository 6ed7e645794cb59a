"""`sync-job diff` in words: the shares first, then what changed."""

from __future__ import annotations

from pathlib import Path

import duckdb
import shop
from builders import flag, state

from sync_job.compare import compare
from sync_job.decode import DecodedState, decode_state

OLD, NEW = (
    (name, decode_state(payload))
    for name, payload in (("old", shop.shop_payload()), ("new", shop.changed_shop_payload()))
)


def test_shares_and_changes() -> None:
    """By flag, the largest share first; below them what was changed."""
    assert compare(OLD, NEW, unit_count=1000).to_text().splitlines() == [
        "old → new",
        "",
        "another answer for, of made-up units:",
        "  flags/live-chat        100.0 % of 1,000 units (± 0.3 %)",
        "  flags/checkout-layout  59.4 % of 1,000 units (± 3.0 %)",
        "",
        "flags/checkout-layout",
        "  rule experiment: variant classic: 50 % → 20 %",
        "  rule experiment: variant compact: 30 % as before, of other buckets",
        "  rule experiment: variant one-page: 20 % → 50 %",
        "flags/live-chat",
        "  rule launch: switched on",
    ]


def test_units_that_were_seen(tmp_path: Path) -> None:
    """A database's units have lines of their own, also where it has seen none."""
    database = tmp_path / "exposures.duckdb"
    with duckdb.connect(database) as connection:
        connection.execute(
            "create table exposures as select 'flags/live-chat' as flag, 'visitor_id' as targeting_key_selector, "
            "'clients/web-shop/clientCredentials/web' as client_credential, 'v' || n as targeting_key "
            "from range(9) t(n)"
        )
    lines = compare(OLD, NEW, unit_count=100, database=database).to_text().splitlines()
    assert lines[5:7] == [
        "another answer for, of seen units:",
        f"  flags/live-chat  {compare(OLD, NEW, database=database).seen_impacts[0].to_text()}",  # type: ignore[index]
    ]
    with duckdb.connect(database) as connection:
        connection.execute("delete from exposures")
    lines = compare(OLD, NEW, unit_count=100, database=database).to_text().splitlines()
    assert lines[5] == "no flag has seen units that it could change for"


def test_nothing_changed() -> None:
    """One line."""
    assert compare(OLD, OLD).to_text() == "old → old: nothing that decides has changed"


def test_changes_that_nobody_notices() -> None:
    """A flag of a client without a secret: it is told of, and there is nobody whose answer could change."""
    old, new = (("e", DecodedState("a", state(flag("a", clients=names)))) for names in (["x"], ["y"]))
    comparison = compare(old, new)
    assert [change.field for change in comparison.changes] == ["clients"]
    assert comparison.impacts == ()
    assert "no flag has made-up units that it could change for" in comparison.to_text()
