"""The evaluator: its readings and hashes, its decisions against the official resolver, and what it refuses."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
from builders import (
    assignment,
    client,
    compiled_plan,
    credential,
    fallthrough,
    flag,
    materialization,
    payload,
    request,
    rule,
    split,
    state,
    variant,
)
from differences import Tally
from differential import evaluate_seeds
from evaluated import EvaluatedPair, compare_evaluated_case
from hypothesis import HealthCheck, given, settings
from oracle import Oracle
from segments import (
    bitset,
    eq,
    in_materialized,
    in_segment,
    not_,
    or_,
    segment,
)
from strategies import cases

from flagedge.errors import DecodeError, FlagedgeError
from flagedge.settings import Secret
from flagedge.wire.state_pb2 import ResolverState
from sync_job.evaluate import evaluate, evaluate_flags
from sync_job.evaluation import Evaluation
from sync_job.materializations import Materializations, Record
from sync_job.plan import EvaluablePlan, load_plan

Vector = dict[str, Any]
SEEDS = 160
DEMO_SECRET = "mkjJruAATQWjeY7foFIWfVAcBWnci2YF"  # the public demo account's


def plan_of(built: ResolverState) -> EvaluablePlan:
    compiled = compiled_plan(built)
    return load_plan(compiled.text, compiled.bits)


def decide(built: ResolverState, context: dict[str, Any] | None = None, **options: Any) -> Evaluation:
    """The flag "a" for a context, by the only credential there is."""
    plan = plan_of(built)
    return evaluate(plan, "a", context or {}, credential=plan.find_credential(), **options)


# Against the official resolver


def test_generated_states() -> None:
    """Answers, assignments, records and wishes are the official resolver's, whether notes are kept or not."""
    tally = Tally()
    evaluate_seeds(range(SEEDS), tally)
    assert tally.requests >= 16 * SEEDS * 0.95
    assert {"MATCH", "NO_SEGMENT_MATCH", "TARGETING_KEY_ERROR", "ERROR"} <= tally.reasons.keys()
    assert tally.reasons["MATCH"] > tally.flags * 0.4


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_shrinkable_states(case: tuple[bytes, list[dict[str, Any]]]) -> None:
    """The same under hypothesis, which shrinks what it finds and remembers it."""
    built, requests = case
    compare_evaluated_case(built, requests, Tally(), random.Random(0))


def test_demo_account(demo_payload: bytes) -> None:
    """On the real state of Confidence's demo account every visitor gets the official answer."""
    visitors = ["tutorial_visitor", *(f"visitor-{number}" for number in range(200))]
    requests = [request({"visitor_id": visitor}, secret=DEMO_SECRET) for visitor in visitors]
    tally = Tally()
    compare_evaluated_case(demo_payload, requests, tally)
    assert tally.reasons["MATCH"] > 0


# What an evaluation is


def test_notes_do_not_matter() -> None:
    """Traced or not, the same is decided; only the trace is missing."""
    built = state(flag("a", rule(segment="s")), segments=[segment("s", eq("n", 5))])
    for context in ({"n": 5}, {"n": "five"}, {}, {"targeting_key": True}):
        traced = decide(built, context)
        assert traced.trace
        assert decide(built, context, is_traced=False) == dataclasses.replace(traced, trace=())


def test_flags_are_those_of_the_credential_in_order() -> None:
    """All flags that a credential sees, or those asked for; others are left out, as in an answer."""
    plan = plan_of(state(flag("b"), flag("a"), flag("other", clients=["d"])))
    seen = {"credential": plan.find_credential()}
    assert [each.flag for each in evaluate_flags(plan, {}, **seen)] == ["flags/b", "flags/a"]
    assert [each.flag for each in evaluate_flags(plan, {}, **seen, flags=["a", "flags/other"])] == ["flags/a"]


def test_an_unseen_flag_is_refused_by_name() -> None:
    """A flag that the client does not see is an error, which names those that it does."""
    plan = plan_of(state(flag("a"), flag("b")))
    with pytest.raises(FlagedgeError, match=r"clients/c sees no flag gone .* it sees a, b"):
        evaluate(plan, "gone", {}, credential=plan.find_credential())


def test_credentials_are_found_by_secret_or_name() -> None:
    """A secret, a credential's or a client's name finds the credential, unless that leaves a choice."""
    plan = plan_of(
        state(
            flag("a", clients=["c", "d"]),
            clients=[client("c"), client("d")],
            credentials=[
                credential("k1", client="c", secret="s1"),
                credential("k2", client="c", secret="s2"),
                credential("k", client="d", secret="s3"),
            ],
        )
    )
    assert plan.find_credential(secret=Secret("s2")).name == "clients/c/clientCredentials/k2"
    for name in ("d", "clients/d", "clients/d/clientCredentials/k"):
        assert plan.find_credential(name=name).client == "clients/d"
    for options, problem in (
        ({}, "has 3 credentials"),
        ({"name": "c"}, "has 2 credentials"),
        ({"name": "e"}, "no client named e"),
        ({"secret": Secret("s4")}, "no client with this client secret"),
    ):
        with pytest.raises(FlagedgeError, match=problem):
            plan.find_credential(**options)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 1, "attributes": 5}', "null"])
def test_what_is_no_plan_is_refused(text: str) -> None:
    """Damaged text is no plan."""
    with pytest.raises(DecodeError, match="not a plan"):
        load_plan(text, b"")


def test_another_format_is_refused() -> None:
    """A plan of a format that this version does not know is refused, with both numbers."""
    with pytest.raises(DecodeError, match="format is 2, and this version knows 1"):
        load_plan('{"format": 2}', b"")


# Sticky assignments

STICKY = state(
    flag(
        "a",
        rule(selector="v", assignments=split(x=50, y=50), materialization=materialization("m", "m")),
        rule("catch-all", selector="v", assignments=split(y=100)),
        variants=[variant("x"), variant("y")],
    )
)
RULE = "flags/a/rules/r"


@pytest.mark.parametrize("kept", ["x", "y"])
def test_a_record_decides(kept: str) -> None:
    """A recorded variant is kept, wherever the unit's bucket lies, and not written again."""
    records = [Record("u", "m", RULE, f"flags/a/variants/{kept}")]
    evaluation = decide(STICKY, {"v": "u"}, materializations=Materializations(records))
    assert (evaluation.reason, evaluation.variant) == ("MATCH", f"flags/a/variants/{kept}")
    assert evaluation.writes == evaluation.wishes == ()


def test_without_a_record_one_is_written() -> None:
    """A unit that has no record is assigned, and what it got would be recorded."""
    evaluation = decide(STICKY, {"v": "u"}, materializations=Materializations())
    assert evaluation.writes == (Record("u", "m", RULE, evaluation.variant),)


def test_records_that_are_not_known_are_wished_for() -> None:
    """Where a record may exist nothing is decided; the record that decides is named."""
    evaluation = decide(STICKY, {"v": "u"}, materializations=Materializations(state="partial"))
    assert evaluation.reason == "UNSPECIFIED"
    assert evaluation.wishes == (Record("u", "m", RULE),)
    assert not evaluation.should_apply
    assert evaluation.writes == ()


def test_known_records_are_enough() -> None:
    """Of what is known in part, that which decides may be known."""
    known = Materializations([Record("u", "m", RULE, "flags/a/variants/x")], state="partial")
    assert decide(STICKY, {"v": "u"}, materializations=known).reason == "MATCH"


def test_unread_records_never_re_randomise() -> None:
    """Where records could not be read the flag errs; where none are bound it says so."""
    assert decide(STICKY, {"v": "u"}, materializations=Materializations(state="unread")).reason == "ERROR"
    assert decide(STICKY, {"v": "u"}).reason == "MATERIALIZATION_NOT_SUPPORTED"


def test_a_wish_for_inclusion_names_no_rule() -> None:
    """A materialized segment asks for any record of the unit in it."""
    built = state(flag("a", rule(segment="s", selector="v")), segments=[segment("s", in_materialized("m"))])
    evaluation = decide(built, {"v": "u"}, materializations=Materializations(state="partial"))
    assert evaluation.wishes == (Record("u", "m", ""),)
    known = Materializations([Record("u", "m", "any rule")])
    assert decide(built, {"v": "u"}, materializations=known).reason == "MATCH"


ODD_RULES = {
    "record against targeting": rule(
        segment="s", selector="v", assignments=split(x=50, y=50), materialization=materialization("m", "m")
    ),
    "record without targeting": rule(
        segment="s",
        selector="v",
        assignments=split(x=50, y=50),
        materialization=materialization("m", "m", ignore_targeting=True),
    ),
    "one variant twice": rule(
        selector="v",
        assignments=[
            assignment("x", (0, 30), assignment_id="low"),
            assignment("y", (30, 60), assignment_id="middle"),
            assignment("x", (60, 90), assignment_id="high"),
        ],
        materialization=materialization("m", "m"),
    ),
    "a segment that asks itself": rule(
        segment="self", selector="v", assignments=split(x=50, y=50), materialization=materialization("m", "m")
    ),
    "no variant": rule(
        selector="v",
        assignments=[fallthrough((0, 50)), assignment("x", (50, 100))],
        materialization=materialization("m", "m"),
    ),
}


@pytest.mark.parametrize("name", ODD_RULES)
def test_odd_records(name: str) -> None:
    """What a record means is the official resolver's to say, for units in every bucket and for any recorded variant."""
    built = state(
        flag("a", ODD_RULES[name], variants=[variant("x"), variant("y")]),
        segments=[
            segment("everybody"),
            segment("s", eq("n", 5)),
            segment("self", criteria={"c": in_segment("self"), "": eq("n", 5)}, expression=or_(not_("c"), "")),
        ],
        bitsets=[bitset("s", share=0.5, seed=1), bitset("self", share=0.5, seed=2)],
    )
    pair = EvaluatedPair(payload(built), Tally())
    for number in range(30):
        for context in ({"v": f"u{number}", "n": 5}, {"v": f"u{number}"}):
            for recorded in ("flags/a/variants/x", "flags/a/variants/y", "", "gone"):
                pair.compare(request(context), [(f"u{number}", "m", RULE, recorded)])


def test_all_that_may_matter_is_wished_for_at_once() -> None:
    """An unknown record does not stop the evaluation: what else is asked for is wished for too."""
    built = state(
        flag("a", rule(segment="s", selector="v")),
        segments=[segment("s", in_materialized("m"), in_materialized("n"))],
    )
    EvaluatedPair(payload(built), Tally()).compare_wishes(request({"v": "u"}))
    evaluation = decide(built, {"v": "u"}, materializations=Materializations(state="partial"))
    assert [wish.materialization for wish in evaluation.wishes] == ["m", "n"]


def test_a_value_that_json_cannot_say_errs() -> None:
    """A variant with NaN in it makes its flag err, by bucket as by record: nobody is assigned anew."""
    built = state(
        flag(
            "a",
            rule(selector="v", assignments=split(x=50, y=50), materialization=materialization("m", "m")),
            variants=[variant("x", {"n": float("nan")}), variant("y")],
        )
    )
    records = [Record("u", "m", RULE, "flags/a/variants/x")]
    evaluation = decide(built, {"v": "u"}, materializations=Materializations(records))
    assert (evaluation.reason, evaluation.writes) == ("ERROR", ())
    plain = state(flag("a", variants=[variant("on", {"n": float("inf")})]))
    assert decide(plain).reason == "ERROR"


# States


def test_rules_of_other_environments_are_passed_over() -> None:
    """A rule that is not for the credential's environments does not decide."""
    built = state(
        flag("a", rule("staging", environments=["staging"]), rule("all", assignments=split(off=100))),
        credentials=[credential(environments=["production"]), credential("k2", secret="s", environments=["staging"])],
    )
    plan = plan_of(built)
    found = {
        each.name: evaluate(plan, "a", {}, credential=each).rule.removeprefix("flags/a/rules/")
        for each in plan.credentials
    }
    assert found == {"clients/c/clientCredentials/k": "all", "clients/c/clientCredentials/k2": "staging"}


def test_diamonds_and_cycles() -> None:
    """Segments that meet again, beside or above each other, count as the official resolver counts them."""
    both = {"c0": in_segment("low"), "c1": in_segment("high")}
    built = state(
        flag("a", rule("one", segment="top"), rule("two", segment="self", assignments=split(off=100))),
        segments=[
            segment("low", eq("n", 5)),
            segment("high", in_segment("low"), in_segment("around")),
            segment("around", criteria={"c0": in_segment("top")}, expression=not_("c0")),
            segment("top", criteria=both, expression=not_("c0")),
            segment("self", criteria={"c0": in_segment("self")}, expression=not_("c0")),
        ],
        bitsets=[bitset("low", share=0.5, seed=3)],
    )
    contexts = [{"targeting_key": f"u{number}", "n": number} for number in range(20)]
    compare_evaluated_case(payload(built), [request(context) for context in contexts], Tally())
    assert Oracle(payload(built)).resolve_flags(request(contexts[0]))
