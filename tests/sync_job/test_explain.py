"""Explanations: for every way a flag can end, the facts that decided are named; and the JSON form."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from builders import (
    assignment,
    client_default,
    credential,
    fallthrough,
    flag,
    materialization,
    rule,
    split,
    state,
    unset_assignment,
    variant,
)
from explained import ACCOUNT, by, decide, ruled, told
from murmur import population_bucket, variant_bucket
from segments import (
    bitset,
    in_range,
    no_rule,
    one_of,
    version,
)

from flagedge.wire.state_pb2 import Flag
from sync_job.explain import explain
from sync_job.materializations import Materializations, Record


def cut(unit: str, count: int = 100) -> int:
    """The unit's bucket in segment "s"."""
    return variant_bucket("s", unit, count)


# Endings


def test_match() -> None:
    """The answer with its value, the reason, the unit, the segment with each criterion, and the exposure."""
    assert told(ruled(), context={"v": "u", "country": "SE"}, **by(one_of("country", "SE", "NO"))) == [
        "flag      flags/a",
        "client    clients/c",
        'state     "e"',
        'answer    variant x, {"name":"x"}',
        "reason    MATCH: rule r matched with variant x",
        'unit      "u"',
        "exposure  rule r, assignment x",
        "",
        "rule r: matched with variant x",
        '  unit: v is "u"',
        "  segment s: yes",
        '    country is one of "SE", "NO"? yes, it is "SE"',
        "  assignment x (all buckets): variant x",
    ]


def test_match_by_bucket() -> None:
    """The bucket, of how many, of which key, and the range that it lies in."""
    low = cut("u")
    choices = [assignment("x", (0, low)), assignment("y", (low, 100))]
    lines = told(ruled(assignments=choices), context={"v": "u"}, **by())
    assert f'  bucket {low} of 100 ("s|u") is in {low} to 99' in lines
    assert "  assignment y: variant y" in lines


def test_client_default() -> None:
    """A rule may leave a unit with the caller's default, which is a match."""
    lines = told(ruled(assignments=[client_default()]), context={"v": "u"}, **by())
    assert "answer    the caller's default" in lines
    assert "reason    MATCH: rule r matched with the caller's default" in lines
    assert "exposure  rule r, assignment client-default" in lines


def test_no_match_by_attribute() -> None:
    """The attribute, what it was compared with, and the value seen stand in the rule's own line."""
    lines = told(ruled(), context={"v": "u", "country": "DE"}, **by(one_of("country", "SE", "NO")))
    assert "answer    the caller's default" in lines
    assert "reason    NO_SEGMENT_MATCH: no rule matched" in lines
    assert 'rule r: passed over, not in segment s: country is one of "SE", "NO"? no, it is "DE"' in lines


def test_no_match_by_bitset() -> None:
    """The unit's bucket of a million, and that it is not in."""
    bit = population_bucket(ACCOUNT, "u")
    lines = told(ruled(), context={"v": "u"}, **by(bitsets=[bitset("s", [bit + 1])]))
    assert f"rule r: passed over, not in segment s: allocation: bucket {bit} of 1000000 is not in" in lines
    assert "    everybody: yes" in lines
    inside = told(ruled(), context={"v": "u"}, **by(bitsets=[bitset("s", [bit])]))
    assert f"    allocation: bucket {bit} of 1000000 is in" in inside


def test_no_match_by_bitset_without_a_unit() -> None:
    """Without a unit only a whole allocation counts."""
    blank = rule(segment="s", assignments=split(x=100))
    lines = told(blank, context={}, **by(bitsets=[bitset("s", [1])]))
    assert "  no unit: targeting_key is missing" in lines
    assert "    allocation: not whole, which is what counts without a unit" in lines


def test_no_match_by_bucket() -> None:
    """The bucket, and the ranges that there are."""
    low = cut("u")
    choices = [assignment("x", (0, low)), assignment("y", (low + 1, 100))]
    lines = told(ruled(assignments=choices), context={"v": "u"}, **by())
    assert f"rule r: passed over, no assignment has bucket {low} of 100" in lines
    assert f'  bucket {low} of 100 ("s|u") is in no range, there are 0 to {low - 1} x, {low + 1} to 99 y' in lines


@pytest.mark.parametrize(("context", "seen"), [({}, "missing"), ({"v": None}, "null")])
def test_missing_unit(context: dict[str, Any], seen: str) -> None:
    """The selector that found nothing."""
    assert f"rule r: passed over without a unit: v is {seen}" in told(ruled(), context=context, **by())


def test_missing_unit_for_buckets() -> None:
    """A rule without a selector that has several assignments needs a unit too."""
    lines = told(rule(segment="s", assignments=split(x=50, y=50)), context={}, **by())
    assert "rule r: passed over without a unit: targeting_key is missing" in lines


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (True, "true, and only text and whole numbers are units"),
        (0.5, "0.5, and a number with a fraction is no unit"),
        ("é" * 51, f'"{"é" * 51}", and a unit has at most 100 bytes'),
    ],
)
def test_invalid_unit(value: Any, problem: str) -> None:
    """Why a value is no unit, which ends the flag; rules behind it are not reached."""
    lines = told(ruled(), ruled(name="next"), context={"v": value}, **by())
    assert f"reason    TARGETING_KEY_ERROR: rule r ended the flag without a valid unit: v is {problem}" in lines
    assert "rule next: not reached" in lines


def test_unit_from_a_number() -> None:
    """A number is a unit by its digits."""
    assert '  unit: v is 5, as text "5"' in told(ruled(), context={"v": 5.0}, **by())


def test_fall_through_then_match() -> None:
    """Both rules are exposures, each with its assignment."""
    rules = ruled(name="holdout", assignments=[fallthrough()]), ruled(name="main", assignments=split(y=100))
    lines = told(*rules, context={"v": "u"}, **by())
    assert lines[3:8] == [
        'answer    variant y, {"name":"y"}',
        "reason    MATCH: rule main matched with variant y",
        'unit      "u"',
        "exposure  rule holdout, assignment fallthrough, fell through",
        "exposure  rule main, assignment y",
    ]
    assert "rule holdout: matched and fell through, by assignment fallthrough" in lines


def test_fall_through_then_no_match() -> None:
    """A unit that fell through and met no other rule is an exposure, of that unit."""
    lines = told(ruled(assignments=[fallthrough()]), context={"v": "u"}, **by())
    assert "reason    NO_SEGMENT_MATCH: no rule matched" in lines
    assert 'exposure  rule r, assignment fallthrough, fell through for unit "u"' in lines


def sticky(**options: Any) -> Flag.Rule:
    return ruled(**{"assignments": split(x=50, y=50), "materialization": materialization("m", "m")} | options)


def test_sticky_hit() -> None:
    """The record that kept the unit where it was."""
    known = Materializations([Record("u", "m", "flags/a/rules/r", "flags/a/variants/y")])
    lines = told(sticky(), context={"v": "u"}, known=known, **by())
    assert "reason    MATCH: rule r matched with variant y, kept from an earlier assignment" in lines
    assert '  record of unit "u" in materialization m: variant y, which counts if the targeting says so: yes' in lines


def test_sticky_miss() -> None:
    """Without a record the unit is assigned, and what would be recorded is named."""
    lines = told(sticky(assignments=split(x=100)), context={"v": "u"}, known=Materializations(), **by())
    assert '  record of unit "u" in materialization m: none' in lines
    assert 'records   variant x for unit "u" in materialization m' in lines


def test_sticky_miss_where_a_record_must_be() -> None:
    """A rule for recorded units alone passes the others over."""
    closed = sticky(materialization=materialization("m", "m", must_match=True))
    lines = told(closed, context={"v": "u"}, known=Materializations(), **by())
    assert "rule r: passed over, it is only for units with a record, and this one has none" in lines


def test_materializations_missing() -> None:
    """A Worker without sticky assignments cannot decide a sticky rule."""
    lines = told(sticky(), context={"v": "u"}, **by())
    assert lines[4] == (
        "reason    MATERIALIZATION_NOT_SUPPORTED: rule r ended the flag, it needs sticky assignments, "
        "and the Worker has none bound"
    )
    assert '  record of unit "u" in materialization m: no sticky assignments are bound' in lines


def test_materializations_unread() -> None:
    """Records that could not be read are an error, not a reason to assign anew."""
    lines = told(sticky(), context={"v": "u"}, known=Materializations(state="unread"), **by())
    problem = "the records of sticky assignments could not be read"
    assert f"reason    ERROR: rule r ended the flag with an error: {problem}" in lines


def test_records_not_known() -> None:
    """Where it depends on records that were not given, those are named, and later rules are held back."""
    rules = sticky(), ruled(name="next")
    lines = told(*rules, context={"v": "u"}, known=Materializations(state="partial"), **by())
    assert lines[3:6] == [
        "answer    not decided",
        "reason    it depends on records of sticky assignments that are not known",
        'missing   record of unit "u" in materialization m by rule r',
    ]
    assert "rule r: not decided, it depends on a record that is not known" in lines
    assert "rule next: would match, but an earlier rule is not decided" in lines


def test_unrecognized_rule() -> None:
    """A criterion of an unknown kind passes its rule over."""
    lines = told(ruled(), context={"v": "u", "n": 1}, **by(no_rule("n")))
    assert (
        "rule r: passed over, its targeting is not understood: n has a test of an unknown kind? not understood, it is 1"
        in lines
    )


def test_error_by_a_value() -> None:
    """Text where a number is compared with: the criterion, the text, and that the flag ended there."""
    lines = told(ruled(), context={"v": "u", "n": "five"}, **by(in_range("n", at_least=5)))
    assert lines[4] == (
        'reason    ERROR: rule r ended the flag with an error: n is at least 5? error, it is "five", which is no number'
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"assignments": split(gone=100)}, "assignment gone names a variant that the flag does not have"),
        ({"assignments": split(x=1, y=1), "bucket_count": 0}, "the rule has no buckets"),
    ],
)
def test_error_by_the_state(options: dict[str, Any], problem: str) -> None:
    """What is wrong with the state."""
    lines = told(ruled(**options), context={"v": "u"}, **by())
    assert f"reason    ERROR: rule r ended the flag with an error: {problem}" in lines


def test_other_ways_to_be_passed_over() -> None:
    """Environments, a rule without assignments, an assignment that says nothing."""
    rules = (
        ruled(name="staging", environments=["staging"]),
        ruled(name="empty", assignments=None),
        ruled(name="unset", assignments=[unset_assignment()]),
    )
    lines = told(*rules, context={"v": "u"}, credentials=[credential(environments=["production"])], **by())
    assert [line for line in lines if line.startswith("rule")] == [
        "rule staging: passed over, not for the environments of this credential",
        "rule empty: passed over, it has no assignments",
        "rule unset: passed over, its assignment unset says nothing",
    ]


# JSON


def test_json_form() -> None:
    """The same tree with whole names, as plain data that survives a trip through text."""
    built = state(flag("a", ruled(), variants=[variant("x", {"n": 5})]), **by(in_range("n", at_least=version("1.2"))))
    evaluation = decide(built, {"v": "u", "n": "2.0"})
    found = evaluation.to_json()
    assert json.loads(json.dumps(found)) == found
    [trace] = found.pop("trace")
    assert found == {
        "flag": "flags/a",
        "client": "clients/c",
        "credential": "clients/c/clientCredentials/k",
        "etag": '"e"',
        "reason": "MATCH",
        "rule": "flags/a/rules/r",
        "segment": "segments/s",
        "variant": "flags/a/variants/x",
        "value": {"n": 5.0},
        "schema": None,
        "assignment_id": "x",
        "unit": "u",
        "selector": "v",
        "fallthroughs": [],
        "writes": [],
        "wishes": [],
        "should_apply": True,
    }
    assert (trace["step"], trace["rule"], trace["ending"]) == ("rule", "flags/a/rules/r", "matched")
    assert [step["step"] for step in trace["steps"]] == ["unit", "segment", "assignment"]
    assert trace["steps"][1]["steps"] == [
        {
            "step": "attribute",
            "attribute": "n",
            "is_present": True,
            "value": "2.0",
            "read_as": ["2.0.0.0"],
            "over": "",
            "operator": "range",
            "operand": [["version", ["1.2", [1, 2, 0, 0]]], True, None, False],
            "truth": "true",
        }
    ]


def test_json_form_of_records_and_numbers() -> None:
    """Records and fall-throughs are objects; whole numbers have no fraction, but for the sign of zero."""
    rules = ruled(name="through", assignments=[fallthrough()], materialization=materialization("m")), ruled()
    built = state(flag("a", *rules, variants=[variant("x")]), **by(one_of("n", 5)))
    found = decide(built, {"v": "u", "n": [5, 0, -0.0, 2.5]}, Materializations()).to_json()
    assert found["writes"] == [{"unit": "u", "materialization": "m", "rule": "flags/a/rules/through", "variant": ""}]
    assert found["fallthroughs"] == [
        {"rule": "flags/a/rules/through", "assignment_id": "fallthrough", "unit": "u", "selector": "v"}
    ]
    value = found["trace"][0]["steps"][1]["steps"][0]["value"]
    assert json.dumps(value) == "[5, 0, -0.0, 2.5]"


def test_without_a_trace_the_answer_is_told() -> None:
    """An untraced evaluation has an answer and a reason, and no rules."""
    evaluation = decide(state(flag("a", ruled(), variants=[variant("x")]), **by()), {"v": "u"})
    lines = explain(dataclasses.replace(evaluation, trace=())).splitlines()
    assert lines[4] == "reason    MATCH"
    assert len(lines) == 7
