"""What `sync-job explain` says of an overridden flag: the override, and its own rules without it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
import shop
from sync_command import Sync

from sync_job.explanation import find_recorded_overrides
from sync_job.overrides import Override
from sync_job.records import Deployment, Outcome, Record

LAYOUT = "flags/checkout-layout"
OTHER = "live-chat"
ONE_PAGE = f"{LAYOUT}/variants/one-page"
CONTEXT = '{"visitor_id": "v"}'
SET = ("override", LAYOUT, "--variant", "one-page", "--why", "checkout is down")


@pytest.fixture
def live(sync: Sync) -> Sync:
    """The shop's state live, unproved, the account named."""
    sync.operator.environ |= {"PROBE": "off", "CLOUDFLARE_ACCOUNT_ID": sync.account_id()}
    assert sync.run()[0] == 0
    return sync


def explain(sync: Sync, *arguments: str, flag: str = LAYOUT) -> dict[str, Any]:
    code, out, err = sync.command("explain", "--flag", flag, "--context", CONTEXT, "--json", *arguments)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def live_etag(sync: Sync) -> str:
    etag: str = json.loads(sync.command("status", "--json")[1])["etag"]
    return etag


def test_an_overridden_flag(live: Sync) -> None:
    """The answer is the Worker's; who, why and until when are told, and what the rules say; other flags are as ever."""
    before = explain(live)
    assert (before["override"], before["without_override"]) == (None, None)
    assert live.command(*SET, "--for", "2h")[0] == 0
    found = explain(live)
    assert live.resolve(visitor_id="v")[LAYOUT] == found["variant"] == ONE_PAGE
    assert found["rule"] == f"{LAYOUT}/rules/override"
    [override] = json.loads(live.command("override", "--list", "--json")[1])
    assert found["override"] == override
    assert found["without_override"] == {key: before[key] for key in found["without_override"]}
    assert explain(live, flag=OTHER)["override"] is None


def test_rule_by_rule(live: Sync) -> None:
    """For people: the override's line and rule, then the flag's own rules as they would decide."""
    live.command(*SET)
    [override] = json.loads(live.command("override", "--list", "--json")[1])
    text = live.command("explain", "--flag", LAYOUT, "--context", CONTEXT)[1]
    overridden, own = text.split("\n\nwithout the override\n")
    told = next(line for line in overridden.splitlines() if line.startswith("override  "))
    assert told.startswith("override  variant one-page, until it is cleared, since 20")
    assert told.endswith(f" by {override['actor']}: checkout is down")
    assert "\nrule override: matched with variant one-page\n" in overridden
    before = live.command("explain", "--flag", LAYOUT, "--context", CONTEXT, "--etag", live_etag(live))[1]
    assert before == text
    live.command("override", LAYOUT, "--clear")
    plain = live.command("explain", "--flag", LAYOUT, "--context", CONTEXT)[1]
    assert "override" not in plain
    assert own[own.index("\n\nrule ") :] == plain[plain.index("\n\nrule ") :]


def test_a_state_of_before(live: Sync) -> None:
    """By entity tag a state is explained as it was when it was live last, whatever holds now."""
    first = live_etag(live)
    live.command(*SET, "--for", "2h")
    [override] = json.loads(live.command("override", "--list", "--json")[1])
    live.operator.publish(shop.changed_shop_payload())
    live.run()
    assert explain(live, "--etag", first)["override"] == override
    live.command("override", LAYOUT, "--clear")
    assert explain(live, "--etag", live_etag(live))["override"] is None
    assert explain(live, "--etag", first)["override"] == override


def test_a_state_that_is_not_live_yet(live: Sync) -> None:
    """The CDN's next state is explained as it would come live: with what holds on it."""
    live.command(*SET)
    live.operator.publish(shop.changed_shop_payload())
    found = explain(live)
    assert (found["etag"] == live_etag(live), found["variant"]) == (False, ONE_PAGE)


def test_a_file_is_explained_as_it_is(live: Sync, tmp_path: Any) -> None:
    """Nothing is live of a file, so nothing overrides it, and no account is asked."""
    live.command(*SET)
    (tmp_path / "state.pb").write_bytes(shop.shop_payload())
    live.requests()
    found = explain(live, "--state", str(tmp_path / "state.pb"), "--client", "web-shop")
    assert found["override"] is None
    assert live.requests() == []


def test_overrides_of_records() -> None:
    """Those after the last deployment of the state: set before it or by it, not by what came later or was refused."""

    def record(etag: str, outcome: Outcome = "deployed", **changed: Override | None) -> Record:
        changes = [
            {"flag": f"flags/{name}", "field": "override", "new": asdict(override) if override else None}
            for name, override in changed.items()
        ]
        changes.append({"flag": "flags/a", "field": "variant", "new": {"name": "x"}})
        return Record("r", etag, "1", Deployment("w", outcome, 0, 0), changes)

    early, later, other = (Override(f"flags/{name}", "", why, 1) for name, why in (("a", "1"), ("a", "2"), ("b", "3")))
    records = [
        record("new", c=other, a=None),
        record("asked", "refused", a=None),
        record("asked", b=other),
        record("asked", a=later),
        record("older", a=early, d=None),
        record("oldest", d=other),
    ]
    assert find_recorded_overrides(records, "asked") == (other, later)
    assert find_recorded_overrides(records, "older") == (early,)
    assert find_recorded_overrides(records, "never") == ()
