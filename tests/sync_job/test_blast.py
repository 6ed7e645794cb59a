"""The blast radius: which units' answers change, how many, and what a limit says to it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import shop
from builders import (
    assignment,
    client,
    client_default,
    credential,
    flag,
    materialization,
    rule,
    split,
    state,
    variant,
)
from generator import Draw, StateGenerator
from segments import bitset, eq, segment

from flagedge.wire.state_pb2 import ResolverState
from sync_job.blast import (
    BlastRadiusError,
    FlagImpact,
    changed_flags,
    check_impact,
    measure_impact,
    measure_seen_impact,
)
from sync_job.decode import DecodedState, decode_state

OLD, NEW = (decode_state(data) for data in (shop.shop_payload(), shop.changed_shop_payload()))


def decoded(built: ResolverState) -> DecodedState:
    return DecodedState("account", built)


def shares(old: ResolverState, new: ResolverState, **options: Any) -> dict[str, float]:
    return {each.flag: each.share for each in measure_impact(decoded(old), decoded(new), **options)}


def test_the_shop_s_change() -> None:
    """Live chat is launched for all; of the new checkout split 60 % come to another layout; others do not change."""
    chat, checkout = measure_impact(OLD, NEW)
    assert (chat.flag, chat.share, chat.unit_count) == ("flags/live-chat", 1.0, 5000)
    assert checkout.flag == "flags/checkout-layout"
    assert abs(checkout.share - 0.6) < 2 * checkout.margin < 0.05
    assert chat.to_text() == "100.0 % of 5,000 units (± 0.1 %)"


def test_the_same_states_give_the_same_numbers() -> None:
    """Nothing is left to chance, and nothing changes against itself."""
    assert measure_impact(OLD, NEW) == measure_impact(OLD, NEW)
    assert measure_impact(OLD, OLD) == ()


@pytest.mark.parametrize(
    ("old", "new", "share"),
    [
        ([assignment("on")], [assignment("off")], 1.0),
        ([assignment("on", (0, 10))], [assignment("on", (0, 30))], 0.2),
        ([assignment("on", (0, 30))], [assignment("on", (30, 60))], 0.6),
        ([client_default((0, 50))], [client_default((0, 10))], 0.0),
        (split(on=50, off=50), [assignment("on", (0, 50)), assignment("off", (50, 100), assignment_id="x")], 0.0),
    ],
)
def test_shares_of_splits(old: list[Any], new: list[Any], share: float) -> None:
    """Moved buckets count; the caller's default is the same as no match, and an assignment's id is nobody's answer."""
    states = [state(flag("a", rule(assignments=each))) for each in (old, new)]
    assert shares(*states).get("flags/a") == pytest.approx(share, abs=0.03)


def test_another_value_is_another_answer() -> None:
    """The same variant with another value changes what its units get; one that nobody gets does not."""

    def with_value(**values: int) -> ResolverState:
        return state(flag("a", variants=[variant(name, {"n": number}) for name, number in values.items()]))

    assert shares(with_value(on=1, off=1), with_value(on=2, off=1)) == {"flags/a": 1.0}
    assert shares(with_value(on=1, off=1), with_value(on=1, off=2)) == {"flags/a": 0.0}


def test_flags_that_come_and_go() -> None:
    """Who had a variant loses it with the flag, with its archiving, and with the client."""
    two = [client(), client("d")]
    keys = [credential(), credential(client="d", secret="other")]
    full = state(flag("a"), flag("b", clients=["d"]), clients=two, credentials=keys)
    assert shares(full, state(flag("b"))) == {"flags/a": 1.0, "flags/b": 1.0}
    assert shares(state(flag("a")), state(flag("a", state="ARCHIVED"), flag("b"))) == {"flags/a": 1.0, "flags/b": 1.0}


def test_a_new_credential_changes_nobody() -> None:
    """Whoever adds one, to change a secret or for a new client, has no unit that asked by it before."""
    keys = [credential(), credential("next", secret="next"), credential(client="d", secret="other")]
    both = [client(), client("d")]
    new = state(flag("a", clients=["c", "d"]), clients=both, credentials=keys)
    assert shares(state(flag("a")), new) == {"flags/a": 0.0}


def test_the_client_that_changes_most_counts() -> None:
    """A rule of one environment concerns all of the units of its credential, whatever others do."""
    keys = [credential("k", secret="k"), credential("t", secret="t", environments=["test"])]
    old, new = (
        state(flag("a", rule("r", environments=["test"], assignments=[assignment(name)])), credentials=keys)
        for name in ("on", "off")
    )
    [impact] = measure_impact(decoded(old), decoded(new))
    assert (impact.credential.rpartition("/")[2], impact.share) == ("t", 1.0)


@pytest.mark.parametrize("part", ["targeting", "bits", "client", "rule"])
def test_whatever_decides_is_looked_at(part: str) -> None:
    """A flag changes with its segments, their bits, its clients' contexts, and its rules."""

    def built(*, is_new: bool) -> ResolverState:
        held = {part: is_new}
        return state(
            flag("a", rule(segment="s", enabled=not held.get("rule"))),
            segments=[segment("s", eq("plan", "paid" if held.get("targeting") else "free"))],
            bitsets=[bitset("s", share=0.2 if held.get("bits") else 0.8, seed=2)],
            clients=[client(managed={"plan": "other" if held.get("client") else "free"})],
        )

    old, new = built(is_new=False), built(is_new=True)
    assert changed_flags(decoded(old), decoded(new)) == {"flags/a"}
    assert shares(old, new)["flags/a"] > 0.5


def test_a_flag_that_is_left_out_gives_the_same_answers() -> None:
    """What is not looked at does not change: asked after all, no unit gets another answer."""
    draw = Draw(random.Random(3))
    for _ in range(20):
        old = StateGenerator(draw).state()
        new = ResolverState.FromString(old.SerializeToString())
        new.flags[0].rules.reverse()
        left_out = {each.name for each in old.flags} - changed_flags(decoded(old), decoded(new))
        assert left_out == {each.name for each in old.flags} - {new.flags[0].name} or len(new.flags[0].rules) < 2
        found = shares(old, new, unit_count=50)
        assert found.keys() <= {new.flags[0].name}


def test_sticky_rules_decide_for_new_units() -> None:
    """Without records, a sticky rule assigns by its buckets."""
    old, new = (
        state(flag("a", rule(assignments=[assignment("on", (0, share))], materialization=materialization("m", "m"))))
        for share in (10, 60)
    )
    assert shares(old, new)["flags/a"] == pytest.approx(0.5, abs=0.03)


def test_units_that_were_seen() -> None:
    """Each with its credential and selector; a unit of a client that is nowhere is not counted."""
    web, mobile = "clients/web-shop/clientCredentials/web", "clients/mobile-app/clientCredentials/mobile"
    seen = {
        "flags/checkout-layout": [(web, "visitor_id", f"v{number}") for number in range(1000)],
        "flags/live-chat": [
            (web, "visitor_id", "v"),
            (mobile, "visitor_id", "v"),
            ("clients/gone/x", "visitor_id", "v"),
        ],
        "flags/price-format": [(web, "visitor_id", "v")],
    }
    found = {each.flag: each for each in measure_seen_impact(OLD, NEW, seen)}
    assert found.keys() == {"flags/checkout-layout", "flags/live-chat"}
    assert found["flags/checkout-layout"].share == pytest.approx(0.6, abs=0.06)
    assert (found["flags/live-chat"].unit_count, found["flags/live-chat"].changed_count) == (2, 1)


def test_nested_selectors_of_seen_units() -> None:
    """A unit lies in a context where its selector looks for it."""
    old, new = (state(flag("a", rule(selector="user.id", assignments=[assignment(name)]))) for name in ("on", "off"))
    [key] = [each.name for each in old.client_credentials]
    [impact] = measure_seen_impact(decoded(old), decoded(new), {"flags/a": [(key, "user.id", "u"), (key, "", "t")]})
    assert (impact.unit_count, impact.changed_count) == (2, 1)


def test_the_limit() -> None:
    """Above it the error names flags, shares, limit, and how to let that very state through."""
    impacts = [FlagImpact("flags/a", "k", 1000, 301), FlagImpact("flags/b", "k", 1000, 300)]
    check_impact(impacts, limit=0.301, etag='"e"')
    with pytest.raises(BlastRadiusError) as error:
        check_impact(impacts, limit=0.3, etag='"e"')
    assert "a for 30.1 % of 1,000 units" in str(error.value)
    assert " b for" not in str(error.value)
    assert "`sync-job run --approve e` lets this very state through" in str(error.value)


def test_a_share_of_nothing() -> None:
    """No units, no share, and no certainty."""
    impact = FlagImpact("flags/a", "", 0, 0)
    assert impact.share == 0.0
    assert impact.margin > 0.4
    assert FlagImpact("flags/a", "", 1000, 0).margin > 0
