"""`sync-job diff` in words: the shares first, then what changed."""

from __future__ import annotations

import shop
from builders import flag, state

from sync_job.compare import compare
from sync_job.decode import DecodedState, decode_state
from sync_job.units import SeenUnit

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


def test_units_that_were_seen() -> None:
    """They have lines of their own, also where there are none."""
    units = [SeenUnit("clients/web-shop/clientCredentials/web", "visitor_id", f"v{number}") for number in range(9)]
    seen = {"flags/live-chat": units}
    lines = compare(OLD, NEW, unit_count=100, seen=seen).to_text().splitlines()
    assert lines[5:7] == [
        "another answer for, of seen units:",
        "  flags/live-chat  100.0 % of 9 units (± 19.5 %)",
    ]
    lines = compare(OLD, NEW, unit_count=100, seen={}).to_text().splitlines()
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
