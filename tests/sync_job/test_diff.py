"""What differs between two states: each field, in words and as data."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import shop
from builders import (
    assignment,
    client,
    client_default,
    credential,
    fallthrough,
    flag,
    materialization,
    rule,
    schema,
    split,
    state,
    variant,
)
from generator import Draw, StateGenerator
from segments import and_, bitset, eq, in_range, in_segment, not_, one_of, segment

from flagedge.wire.state_pb2 import Flag, ResolverState
from sync_job.change import Change, format_changes
from sync_job.decode import decode_state
from sync_job.diff import diff_states


def texts(old: ResolverState, new: ResolverState) -> list[str]:
    return [change.text for change in diff_states(old, new)]


def rule_texts(old: Flag.Rule, new: Flag.Rule, **parts: Any) -> list[str]:
    return texts(state(flag("a", old), **parts), state(flag("a", new), **parts))


def test_equal_states_do_not_differ() -> None:
    """Nothing is said of what is the same, whatever the order of names that mean nothing by it."""
    old, new = (state(flag("a", clients=names), flag("b")) for names in (["c", "d"], ["d", "c"]))
    assert diff_states(old, new) == ()


def test_the_shop_s_change() -> None:
    """Somebody changed a split and launched a flag: both, in words, by flag."""
    old, new = (decode_state(payload).resolver_state for payload in (shop.shop_payload(), shop.changed_shop_payload()))
    assert list(format_changes(diff_states(old, new))) == [
        "flags/checkout-layout",
        "  rule experiment: variant classic: 50 % → 20 %",
        "  rule experiment: variant compact: 30 % as before, of other buckets",
        "  rule experiment: variant one-page: 20 % → 50 %",
        "flags/live-chat",
        "  rule launch: switched on",
    ]


def test_a_change_as_data() -> None:
    """Old and new value, percent for a share, under full names."""
    old, new = (state(flag("a", rule("r", assignments=split(on=share, off=100 - share)))) for share in (50, 62))
    assert diff_states(old, new)[0].to_json() == {
        "flag": "flags/a",
        "rule": "flags/a/rules/r",
        "field": "assignment.ranges",
        "change": "changed",
        "old": 50,
        "new": 62,
        "text": "variant on: 50 % → 62 %",
    }


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (rule(), rule(enabled=False), ["switched off"]),
        (rule(selector=""), rule(selector="visitor_id"), ["unit targeting_key → visitor_id"]),
        (rule(), rule(environments=["test"]), ["environments: test added"]),
        (rule(environments=["test"]), rule(environments=["live"]), ["environments: live added, test removed"]),
        (
            rule(),
            rule(materialization=materialization("m")),
            ['sticky assignment null → {"writeMaterialization": "m"}'],
        ),
        (
            rule(assignments=[assignment("on", (0, 50))]),
            rule(assignments=[assignment("on", (0, 50)), client_default((50, 60)), fallthrough((60, 100))]),
            ["the caller's default added: 10 %", "fall through added: 40 %"],
        ),
        (
            rule(assignments=split(on=50, off=50)),
            rule(assignments=[assignment("on", (0, 50))]),
            ["variant off removed, which had 50 %"],
        ),
        (
            rule(assignments=[assignment("on", (0, 50))]),
            rule(assignments=[assignment("on", (10, 60))]),
            ["variant on: 50 % as before, of other buckets"],
        ),
        (
            rule(assignments=[assignment("on", (0, 50))]),
            rule(assignments=[assignment("on", (0, 5))], bucket_count=10),
            ["100 → 10 buckets, so units fall anew"],
        ),
    ],
)
def test_fields_of_a_rule(old: Flag.Rule, new: Flag.Rule, expected: list[str]) -> None:
    """Each field that decides something has its words."""
    assert rule_texts(old, new) == expected


def test_rules_added_removed_and_reordered() -> None:
    """By name: what is new, with its target and shares, what is gone, and the order of those that stay."""
    people = [segment("everybody"), segment("nordics", one_of("country", "SE", "NO"))]
    old = state(flag("a", rule("x"), rule("y"), rule("z")), segments=people)
    new = state(flag("a", rule("n", segment="nordics"), rule("z"), rule("x")), segments=people)
    changes = diff_states(old, new)
    assert [(change.rule.rpartition("/")[2], change.field, change.change, change.text) for change in changes] == [
        ("n", "rule", "added", 'added as number 1: segment nordics (country is one of "SE", "NO"), variant on 100 %'),
        ("y", "rule", "removed", "removed: segment everybody (everybody), variant on 100 %"),
        ("", "rules.order", "changed", "rules reordered: x, z → z, x"),
    ]


def test_targeting_in_words() -> None:
    """A rule tells of its segment's targeting, and of that of the segments behind it."""

    def people(country: str, held: float) -> list[Any]:
        criteria = {"here": eq("country", country), "rich": in_range("cart", at_least=100), "held": in_segment("held")}
        return [
            segment("everybody"),
            segment("some", criteria=criteria, expression=and_("here", "rich", not_("held"))),
            segment("held"),
        ]

    old, new = (
        state(flag("a", rule(segment="some")), segments=people(country, share), bitsets=[bitset("held", share=share)])
        for country, share in (("SE", 0.05), ("NO", 0.1))
    )
    changes = diff_states(old, new)
    assert [change.field for change in changes] == ["segment.targeting", "segment.allocation"]
    condition = 'country is "{}" and cart is at least 100 and not in segment held'
    assert changes[0].text == f"segment some: {condition.format('SE')} → {condition.format('NO')}"
    assert changes[0].new[:2] == ["&", {"attribute": "country", "eq": ["string", "NO"]}]
    assert changes[0].new[3] == ["!", {"segment": "segments/held"}]
    assert changes[1].text.startswith("segment held: 5")
    assert changes[1].old == pytest.approx(5, abs=0.1)


def test_a_segment_that_is_asked_now() -> None:
    """Segments that come into reach are told of with whom they are about."""
    plain = [segment("everybody"), segment("held", eq("country", "SE"))]
    asking = [segment("everybody", criteria={"h": in_segment("held")}, expression=not_("h")), plain[1]]
    old, new = (state(flag("a"), segments=segments) for segments in (plain, asking))
    assert texts(old, new) == [
        "segment everybody: everybody → not in segment held",
        'segment held asked now: country is "SE"',
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"variants": [variant("on")]}, {"variants": [variant("on"), variant("x", {"n": 1})]}, ['added: {"n": 1}']),
        ({"variants": [variant("on"), variant("x")]}, {"variants": [variant("on")]}, ["variant x removed"]),
        (
            {"variants": [variant("on", {"steps": 4, "old": None, "deep": {"a": [1.5]}})]},
            {"variants": [variant("on", {"steps": 2, "new": True, "deep": {"a": [1.5, "x"]}})]},
            [
                'variant on: deep {"a": [1.5]} → {"a": [1.5, "x"]}, steps 4 → 2, new added (true), old removed',
            ],
        ),
        (
            {"schema": schema({"a": int, "b": str})},
            {"schema": schema({"a": float})},
            ['schema: a {"intSchema": {}} → {"doubleSchema": {}}, b removed'],
        ),
        ({"state": "ACTIVE"}, {"state": "ARCHIVED"}, ["active → archived"]),
        ({"clients": ["c"]}, {"clients": ["d"]}, ["clients that see it: clients/d added, clients/c removed"]),
    ],
)
def test_fields_of_a_flag(old: dict[str, Any], new: dict[str, Any], expected: list[str]) -> None:
    """Variants' values field by field, schema, state and clients."""
    found = texts(state(flag("a", **old)), state(flag("a", **new)))
    assert len(found) == len(expected)
    assert all(text.endswith(end) for text, end in zip(found, expected, strict=True)), found


def test_flags_and_clients_that_come_and_go() -> None:
    """Whole flags are told in a line each; clients and credentials stand before them, under no flag."""
    old = state(flag("a"), clients=[client(managed={"plan": "free"})])
    new = state(
        flag("b"),
        clients=[client(managed={"plan": "paid"}), client("d")],
        credentials=[credential(environments=["live"]), credential(client="d", secret="other")],
    )
    changes = diff_states(old, new)
    assert [(change.flag, change.field, change.change) for change in changes] == [
        ("", "client", "changed"),
        ("", "credential", "changed"),
        ("", "managed_context", "changed"),
        ("", "environments", "added"),
        ("flags/b", "flag", "added"),
        ("flags/a", "flag", "removed"),
    ]
    assert changes[2].text == 'managed context of clients/c: plan "free" → "paid"'
    assert next(iter(format_changes(changes))) == "clients"


def test_secrets_are_no_part_of_it() -> None:
    """A changed client secret is not told, in any form: an archived state does not hold it."""
    old, new = (state(flag("a"), credentials=[credential(secret=secret)]) for secret in ("one", "two"))
    assert diff_states(old, new) == ()


def test_a_number_that_json_cannot_say() -> None:
    """NaN and infinities are text, so that a record of the change is JSON."""
    old, new = (state(flag("a", variants=[variant("on", {"n": number})])) for number in (1.0, float("inf")))
    [change] = diff_states(old, new)
    assert change.new == {"name": "flags/a/variants/on", "value": {"n": "inf"}}


def test_everything_of_the_generator_can_be_told() -> None:
    """Any two generated states give changes with words, and none against themselves."""
    states = [StateGenerator(Draw(random.Random(seed))).state() for seed in range(60)]
    for old, new in itertools.pairwise(states):
        changes = diff_states(old, new)
        assert all(isinstance(change, Change) and change.text for change in changes)
        assert diff_states(old, old) == ()
