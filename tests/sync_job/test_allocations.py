"""Allocation epochs: exact shares by hand-made rules, and against what the evaluator gives to drawn units."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from builders import (
    assignment,
    client,
    client_default,
    compiled_plan,
    credential,
    fallthrough,
    flag,
    rule,
    split,
    state,
    unset_assignment,
)
from segments import segment

from flagedge.wire.state_pb2 import Flag, ResolverState
from sync_job.allocations import Allocation, allocate_shares
from sync_job.evaluate import evaluate_flags
from sync_job.plan import load_plan
from sync_job.trace import AssignmentStep, BucketStep

Given = dict[tuple[str, str], dict[str, float]]


def given(built: ResolverState) -> Given:
    """By short names of flag and rule: the share by assignment id, "" for none."""
    shares: Given = defaultdict(dict)
    for each in allocate_shares(built):
        names = each.flag.removeprefix("flags/"), each.rule.rpartition("/")[2]
        shares[names][each.assignment_id or ""] = each.share
    return dict(shares)


def only(*rules: Flag.Rule) -> dict[str, dict[str, float]]:
    """The shares of one flag's rules."""
    return {name: shares for (_, name), shares in given(state(flag("a", *rules))).items()}


def test_a_split_is_its_ranges() -> None:
    """Shares are buckets of all buckets; names are full ones."""
    allocations = allocate_shares(state(flag("a", rule("r", assignments=split(on=30, off=70), selector="visitor_id"))))
    assert allocations == (
        Allocation(
            "flags/a",
            "flags/a/rules/r",
            "segments/everybody",
            "visitor_id",
            "variant",
            "flags/a/variants/on",
            "on",
            0.3,
        ),
        Allocation(
            "flags/a",
            "flags/a/rules/r",
            "segments/everybody",
            "visitor_id",
            "variant",
            "flags/a/variants/off",
            "off",
            0.7,
        ),
    )


def test_kinds_and_what_nobody_owns() -> None:
    """The caller's default and fall-throughs have shares; buckets of nobody and of nothing are unassigned."""
    rules = [
        rule(
            "r",
            assignments=[
                assignment("on", (0, 10)),
                client_default((10, 30)),
                fallthrough((30, 40)),
                unset_assignment((40, 45)),
            ],
        )
    ]
    allocations = allocate_shares(state(flag("a", *rules)))
    assert [(each.kind, each.variant, each.share) for each in allocations] == [
        ("variant", "flags/a/variants/on", 0.1),
        ("client_default", None, 0.2),
        ("fallthrough", None, 0.1),
        ("unassigned", None, 0.6),
    ]


def test_overlapping_and_odd_ranges() -> None:
    """Of two owners the first counts, once; ranges beyond the buckets, empty or reversed ones hold nobody."""
    rules = [
        rule(
            "r",
            assignments=[
                assignment("on", (0, 50), (40, 60), (70, 70), (90, 80)),
                assignment("off", (50, 200), (-10, 5)),
            ],
        )
    ]
    assert only(*rules) == {"r": {"on": 0.6, "off": 0.4}}


def test_rules_on_one_segment_share_their_bucketing() -> None:
    """Whom a rule has let through has its other buckets: an even split behind it is not even any more."""
    first = rule("first", assignments=[assignment("on", (0, 40)), fallthrough((40, 60))])
    second = rule("second", assignments=split(on=50, off=50))
    assert only(first, second)["second"] == {"on": 10 / 60, "off": 50 / 60}


def test_bucketing_is_shared_across_counts() -> None:
    """10 and 100 buckets of one hash tell of each other: of 100, those that end in 0 to 4 are taken."""
    first = rule("first", assignments=[assignment("on", (0, 5))], bucket_count=10)
    second = rule("second", assignments=[assignment("on", (0, 8)), assignment("off", (8, 100))])
    assert only(first, second)["second"] == {"on": 3 / 50, "off": 47 / 50}


@pytest.mark.parametrize(
    "first",
    [
        rule("first", segment="others", assignments=[assignment("on", (0, 40))]),
        rule("first", selector="account_id", assignments=[assignment("on", (0, 40))]),
        rule("first", enabled=False, assignments=[assignment("on", (0, 40))]),
        rule("first", environments=["test"], assignments=[assignment("on", (0, 40))]),
    ],
)
def test_other_bucketings_do_not_count(first: Flag.Rule) -> None:
    """Another segment, another unit, a rule that is off or that holds for some credentials only."""
    built = state(
        flag("a", first, rule("second", assignments=split(on=50, off=50))),
        segments=[segment("everybody"), segment("others")],
    )
    assert given(built)["a", "second"] == {"on": 0.5, "off": 0.5}


def test_a_rule_that_nobody_reaches() -> None:
    """Behind a rule for everybody all shares are 0."""
    assert only(rule("first"), rule("second", assignments=split(on=50, off=50))) == {
        "first": {"on": 1.0},
        "second": {"on": 0.0, "off": 0.0},
    }


def test_what_nobody_can_ask_for_has_no_shares() -> None:
    """Archived flags, flags of clients without a secret, rules without buckets or segment."""
    built = state(
        flag("archived", state="ARCHIVED"),
        flag("unseen", clients=["mute"]),
        flag("empty", rule("r", assignments=None), rule("q", bucket_count=0), rule("p", segment="gone")),
        segments=[segment("everybody")],
        clients=[client(), client("mute")],
        credentials=[credential()],
    )
    del built.segments_no_bitsets[1:]
    assert given(built) == {}


def random_rules(draw: random.Random) -> list[Flag.Rule]:
    """Rules on few segments with ranges that overlap and leave gaps."""
    rules = []
    for number in range(3):
        count = draw.choice([10, 40, 100, 1000])
        kinds: list[Any] = [
            lambda *ranges, number=number: assignment("on", *ranges, assignment_id=f"on-{number}"),
            lambda *ranges, number=number: assignment("off", *ranges, assignment_id=f"off-{number}"),
            client_default,
            fallthrough,
        ]
        assignments = []
        for kind in draw.sample(kinds, 3):
            bounds = [sorted((draw.randrange(count + 1), draw.randrange(count + 1))) for _ in range(2)]
            assignments.append(kind(*((low, high) for low, high in bounds)))
        selector = draw.choice(["", "", "visitor_id"])
        segment_name = draw.choice(["first", "second"])
        rules.append(
            rule(f"r{number}", segment=segment_name, assignments=assignments, bucket_count=count, selector=selector)
        )
    return rules


@pytest.mark.parametrize("seed", range(12))
def test_shares_are_what_the_evaluator_gives(seed: int) -> None:
    """Of the units that reach a rule's buckets, each assignment gets its share, within five standard deviations."""
    draw = random.Random(seed)
    built = state(flag("a", *random_rules(draw)), segments=[segment("first"), segment("second")])
    compiled = compiled_plan(built)
    plan = load_plan(compiled.text, compiled.bits)
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for _ in range(1500):
        context = {"targeting_key": f"t{draw.getrandbits(40)}", "visitor_id": f"v{draw.getrandbits(40)}"}
        [evaluation] = evaluate_flags(plan, context, credential=plan.credentials[0])
        for step in evaluation.trace:
            if any(isinstance(inner, BucketStep) for inner in step.steps):
                ids = [inner.assignment_id for inner in step.steps if isinstance(inner, AssignmentStep)]
                seen[step.rule][ids[0] if ids else ""] += 1
    expected = {f"flags/a/rules/{name}": shares for (_, name), shares in given(built).items()}
    for name, shares in expected.items():
        reached = seen[name].total()
        assert not reached or sum(shares.values()) == pytest.approx(1.0)
        assert not seen[name].keys() - shares.keys()
        for assignment_id, share in shares.items():
            spread = math.sqrt(share * (1 - share) * reached)
            assert abs(seen[name][assignment_id] - share * reached) <= 5 * spread + 1e-6, (name, assignment_id)
