"""Break-glass, as values: what an override is in a state, in a binding, and what it may name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import shop
from builders import flag, rule, segment, state, variant

from flagedge.wire.state_pb2 import ResolverState
from sync_job.allocations import allocate_shares
from sync_job.compile import compile_plan
from sync_job.decode import DecodedState, decode_state
from sync_job.evaluate import evaluate
from sync_job.evaluation import Evaluation
from sync_job.official import OfficialResolver
from sync_job.override_state import find_variant, override_state, settle_overrides
from sync_job.overrides import Override, OverrideChange, OverrideError, read_overrides, write_overrides
from sync_job.plan import load_plan

SHOP = decode_state(shop.shop_payload())
LAYOUT = "flags/checkout-layout"
ONE_PAGE = Override(LAYOUT, f"{LAYOUT}/variants/one-page", "checkout is down", since_s=1000)
OFF = replace(ONE_PAGE, variant="")


def decide(decoded: DecodedState, name: str, context: dict[str, object]) -> Evaluation:
    compiled = compile_plan(decoded, etag='"e"')
    plan = load_plan(compiled.text, compiled.bits)
    return evaluate(plan, name, context, credential=plan.find_credential(name="web-shop"))


@pytest.mark.parametrize("context", [{}, {"visitor_id": "v"}, {"targeting_key": 1.5}, {"targeting_key": "x" * 101}])
def test_everybody_gets_it(context: dict[str, object]) -> None:
    """Whatever the context, also without a unit and with one that is none; the rule's name tells."""
    evaluation = decide(override_state(SHOP, [ONE_PAGE]), LAYOUT, context)
    assert (evaluation.reason, evaluation.variant) == ("MATCH", ONE_PAGE.variant)
    assert (evaluation.rule, evaluation.assignment_id) == (f"{LAYOUT}/rules/override", ONE_PAGE.variant)


def test_off_is_the_callers_default() -> None:
    """No variant and an empty value, as a rule's client default gives; it is an exposure, and its rule tells."""
    answer = decide(override_state(SHOP, [OFF]), LAYOUT, {"visitor_id": "v"}).answer()
    assert answer == {
        "flag": LAYOUT,
        "value": {},
        "flagSchema": {},
        "reason": "RESOLVE_REASON_MATCH",
        "shouldApply": True,
        "assignmentOrigin": f"{LAYOUT}/rules/override",
    }


@pytest.mark.parametrize("override", [ONE_PAGE, OFF])
def test_the_official_resolver_agrees(override: Override) -> None:
    """It takes the rule as any other, and decides every flag of the shop as the evaluator does."""
    decoded = override_state(SHOP, [override])
    official = OfficialResolver(decoded)
    compiled = compile_plan(decoded, etag='"e"')
    credential = load_plan(compiled.text, compiled.bits).find_credential(name="web-shop")
    for visitor in [{}, {"targeting_key": 1.5}, *shop.visitors(20)]:
        answers = official.resolve(credential.secret_sha256, visitor)
        for name, answer in answers.items():
            decided = decide(decoded, name, visitor).answer()
            expected = {key: value for key, value in decided.items() if key not in {"flag", "flagSchema"}}
            assert answer == expected


def test_other_flags_are_left_alone() -> None:
    """Only rules of the flag are replaced, and one segment is added, under a name that was free."""
    taken = state(flag("a"), flag("b"), segments=[segment("everybody"), segment("override")])
    decoded = DecodedState("account", taken)
    changed = override_state(decoded, [Override("flags/a", "flags/a/variants/off", "why", 1)]).resolver_state
    assert changed.segments_no_bitsets[-1].name == "segments/override-"
    del changed.segments_no_bitsets[-1]
    assert changed.flags[0].rules[0].segment == "segments/override-"
    changed.flags[0].CopyFrom(taken.flags[0])
    assert changed == taken
    assert override_state(decoded, []) is decoded


def test_it_replaces_the_shares_of_its_flag() -> None:
    """The allocation epoch under an override is the override's."""
    [allocation] = [each for each in allocate_shares(override_state(SHOP, [OFF]).resolver_state) if each.flag == LAYOUT]
    assert (allocation.rule, allocation.kind, allocation.share) == (f"{LAYOUT}/rules/override", "client_default", 1.0)


@pytest.mark.parametrize(
    ("name", "variant_name", "says"),
    [
        ("chekout-layout", "compact", "Did you mean checkout-layout?"),
        ("flags/checkout-layot", "compact", "Did you mean checkout-layout?"),
        ("zzz", "on", "no active flag that a client sees is named zzz"),
        ("checkout-layout", "one-pag", "flags/checkout-layout has no variant one-pag. Did you mean one-page?"),
        ("checkout-layout", "q", "classic or compact or one-page"),
    ],
)
def test_what_is_not_there_is_refused(name: str, variant_name: str, says: str) -> None:
    """A flag or variant that the state does not have: the error lists near names."""
    with pytest.raises(OverrideError) as error:
        find_variant(SHOP.resolver_state, name, variant_name)
    assert says in str(error.value)


@pytest.mark.parametrize("name", ["checkout-layout", LAYOUT])
def test_names_may_be_short(name: str) -> None:
    """With and without their collections; no variant is off."""
    expected = (LAYOUT, f"{LAYOUT}/variants/compact")
    assert find_variant(SHOP.resolver_state, name, "compact") == expected
    assert find_variant(SHOP.resolver_state, name, expected[1]) == expected
    assert find_variant(SHOP.resolver_state, name, "") == (LAYOUT, "")


def test_flags_that_nobody_is_served() -> None:
    """An archived flag and one that no client sees cannot be overridden: nothing would happen."""
    built = state(flag("archived", state="ARCHIVED"), flag("unseen", clients=["nobody"]))
    for name in ("archived", "unseen"):
        with pytest.raises(OverrideError, match="There are none"):
            find_variant(built, name, "")


@pytest.mark.parametrize(
    ("built", "now_s", "reason"),
    [
        (state(flag("a")), 1999, ""),
        (state(flag("a")), 2000, "ended"),
        (state(flag("b")), 1999, "the flag is not in the state any more"),
        (state(flag("a", state="ARCHIVED")), 1999, "the flag is not in the state any more"),
        (state(flag("a", rule(), variants=[variant("off")])), 1999, "the variant is not in the state any more"),
    ],
)
def test_overrides_end(built: ResolverState, now_s: int, reason: str) -> None:
    """At their time, and where the state lost what they name."""
    override = Override("flags/a", "flags/a/variants/on", "why", 1000, until_s=2000)
    kept, dropped = settle_overrides([override], built, now_s=now_s)
    assert dropped == (((override, reason),) if reason else ())
    assert kept == (() if reason else (override,))


def test_one_without_an_end_stays() -> None:
    """Until it is cleared."""
    assert settle_overrides([OFF], SHOP.resolver_state, now_s=10**12)[0] == (OFF,)


def test_changes() -> None:
    """One override a flag: a new one replaces it; clearing names flags, or takes all."""
    other = replace(OFF, flag="flags/live-chat")
    assert OverrideChange(put=OFF).apply([ONE_PAGE, other]) == (other, OFF)
    assert OverrideChange(clear=frozenset({LAYOUT})).apply([ONE_PAGE, other]) == (other,)
    assert OverrideChange(clear=None).apply([ONE_PAGE, other]) == ()
    with pytest.raises(OverrideError, match="Overridden are: live-chat"):
        OverrideChange(clear=frozenset({LAYOUT})).apply([other])


def test_the_binding() -> None:
    """What is written is read; what is not ours is none; what a binding cannot hold is refused."""
    assert read_overrides(write_overrides([ONE_PAGE, OFF])) == (ONE_PAGE, OFF)
    assert write_overrides([]) == ""
    assert [read_overrides(text) for text in ("", "{", "[1]", '[{"flag": "f"}]')] == [()] * 4
    with pytest.raises(OverrideError, match="a binding holds 5000"):
        write_overrides([replace(OFF, why="é" * 2600)])


def test_words() -> None:
    """One line for people."""
    text = replace(ONE_PAGE, until_s=8200, actor="sam").to_text()
    assert text == (
        "checkout-layout: variant one-page, until 1970-01-01T02:16:40+00:00, since 1970-01-01T00:16:40+00:00 by sam: "
        "checkout is down"
    )
    assert OFF.to_text().startswith("checkout-layout: off, the caller's default, until it is cleared")
