"""The compiler: what a plan holds, and that it is a function of the state alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import (
    assignment,
    client,
    compiled_plan,
    credential,
    flag,
    rule,
    split,
    state,
    variant,
)
from segments import and_, bitset, eq, in_range, in_segment, no_rule, not_, or_, segment

from flagedge.errors import DecodeError
from flagedge.wire import state_pb2
from sync_job.bitsets import store_bits
from sync_job.compile import compile_plan
from sync_job.decode import decode_state
from sync_job.fragments import NotFiniteError, number_text
from sync_job.targeting import parse_version


def plan_of(built: state_pb2.ResolverState) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(compiled_plan(built).text)
    return plan


def test_same_state_same_bytes() -> None:
    """The same state and entity tag give the same plan, byte for byte, in any process."""
    built = state(flag("a", rule(assignments=split(x=50, y=50)), variants=[variant("x"), variant("y")]))
    assert compiled_plan(built) == compiled_plan(built)


def test_no_client_secret_in_the_plan(demo_payload: bytes) -> None:
    """A plan knows clients by the digest of their secrets, never by the secrets."""
    plan = compile_plan(decode_state(demo_payload), etag='"e"')
    assert "mkjJruAATQWjeY7foFIWfVAcBWnci2YF" not in plan.text
    assert b"mkjJruAATQWjeY7foFIWfVAcBWnci2YF" not in plan.bits


def test_dead_rules_are_left_out() -> None:
    """Rules that are disabled or whose segment is not in the state do not reach the plan."""
    built = state(flag("a", rule("off", enabled=False), rule("lost", segment="nowhere"), rule("live")))
    names = [item["name"] for item in plan_of(built)["flags"][0]["rules"]]
    assert names == ["flags/a/rules/live"]


def test_credentials_belong_to_a_client_at_the_slash() -> None:
    """`clients/ab` does not own the credentials of `clients/abc`."""
    built = state(
        flag("a", rule(), clients=("ab", "abc")),
        clients=[client("abc"), client("ab")],
        credentials=[credential("k", client="abc", secret="s")],
    )
    assert [item["client"] for item in plan_of(built)["clients"]] == ["clients/abc"]


def test_full_bitset_that_is_not_full_is_refused() -> None:
    """A bitset that is marked as not full and has no bits makes the state unusable, and the error names it."""
    built = state(flag("a", rule()))
    built.bitsets.append(state_pb2.PackedBitset(segment="segments/odd", full_bitset=False))
    with pytest.raises(DecodeError, match="segments/odd"):
        compiled_plan(built)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:-8] + bytes(8), lambda data: b"x" + data]
)
def test_damaged_bitset_is_refused(damage: Any) -> None:
    """A bitset that is no plain gzip member, or fails its checksum, is refused and named."""
    built = state(flag("a", rule(segment="s")), segments=[segment("s")], bitsets=[bitset("s", share=0.5, seed=1)])
    built.bitsets[0].gzipped_bitset = damage(built.bitsets[0].gzipped_bitset)
    with pytest.raises(DecodeError, match="segments/s"):
        compiled_plan(built)


@pytest.mark.parametrize(
    ("bits", "kind"),
    [
        (bytes(125_000), "none"),
        (b"\xff" * 125_000, "full"),
        (b"\xff" * 50_000 + bytes(75_000), "ranges"),
        (b"\x01" + bytes(62_499) + b"\x80" + bytes(62_499), "positions"),
        (bytes(range(256)) * 488, "dense"),
    ],
)
def test_bitsets_take_the_smallest_form(bits: bytes, kind: str) -> None:
    """All and none cost nothing, runs and single bits are listed, everything else stays bits."""
    stored = store_bits(bits)
    assert stored.kind == kind
    assert len(stored.data) <= len(bits)


def test_equal_bitsets_lie_in_the_module_once() -> None:
    """Two segments with the same bits share them."""
    built = state(
        flag("a", rule("one", segment="s"), rule("two", segment="t")),
        segments=[segment("s"), segment("t")],
        bitsets=[bitset("s", share=0.5, seed=1), bitset("t", share=0.5, seed=1)],
    )
    plan = compiled_plan(built)
    assert len(plan.bits) == 125_000


def test_cycles_are_marked_with_all_that_lead_to_them() -> None:
    """A segment from which a cycle can be reached is cyclic; one that merely shares a criterion is not."""
    built = state(
        flag("a", rule("r1", segment="entry"), rule("r2", segment="plain")),
        segments=[
            segment("entry", in_segment("loop")),
            segment("loop", criteria={"c": in_segment("loop")}, expression=not_("c")),
            segment("plain", eq("country", "SE")),
        ],
    )
    assert {item["name"]: item.get("cyclic", False) for item in plan_of(built)["segments"]} == {
        "segments/entry": True,
        "segments/loop": True,
        "segments/plain": False,
    }


def test_overlapping_ranges_go_to_the_first_assignment() -> None:
    """Where ranges overlap, the assignment that stands first owns the bucket; gaps are owned by none."""
    built = state(
        flag(
            "a",
            rule(assignments=[assignment("x", (10, 60)), assignment("y", (0, 20), (50, 90))], bucket_count=100),
            variants=[variant("x"), variant("y")],
        )
    )
    compiled_rule = plan_of(built)["flags"][0]["rules"][0]
    assert compiled_rule["bounds"] == [0, 10, 20, 50, 60, 90]
    assert compiled_rule["owners"] == [1, 0, 0, 0, 1]


def test_unknown_rules_are_kept_as_not_understood() -> None:
    """A criterion without a rule stays in the plan without a test, so that the Worker skips the flag rule."""
    built = state(flag("a", rule(segment="s")), segments=[segment("s", no_rule("country"))])
    assert plan_of(built)["criteria"] == [{"attribute": 1}]


def test_lists_without_an_inner_rule_are_not_understood_at_all() -> None:
    """ANY and ALL without an inner message are not understood anywhere; with an odd one, only where it is looked at."""
    for inner, compiled_test in ((None, {"attribute": 1}), (state_pb2.InnerRule(), {"attribute": 1, "over": "all"})):
        built = state(flag("a", rule(segment="s")), segments=[segment("s", no_rule("n"))])
        criterion = built.segments_no_bitsets[0].targeting.criteria["c0"].attribute
        criterion.all_rule.CopyFrom(state_pb2.ListRule(rule=inner))
        assert plan_of(built)["criteria"] == [compiled_test]


def test_expressions_keep_their_order() -> None:
    """Operands stay in order, because evaluation stops early."""
    built = state(
        flag("a", rule(segment="s")),
        segments=[
            segment(
                "s",
                criteria={"c": eq("country", "SE"), "n": in_range("age", at_least=18)},
                expression=or_(and_("c", "n"), not_("c"), "unknown"),
            )
        ],
    )
    assert plan_of(built)["segments"][0]["expression"] == ["|", ["&", 0, 1], ["!", 0], False]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e16"),
        (1e21, "1e21"),
        (1e-5, "0.00001"),
        (-1.5e-5, "-0.000015"),
        (1e-6, "1e-6"),
        (1e-7, "1e-7"),
        (5e-324, "5e-324"),
        (1.2345678901234568e17, "1.2345678901234568e17"),
        (123456.789, "123456.789"),
    ],
)
def test_numbers_have_upstreams_text(number: float, text: str) -> None:
    """Doubles always show a fraction or an exponent: typed clients tell 5 from 5.0."""
    assert number_text(number) == text


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_without_json_text_are_refused(number: float) -> None:
    """JSON cannot say NaN or infinity."""
    with pytest.raises(NotFiniteError):
        number_text(number)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1.2", (1, 2, 0, 0)),
        ("1.2.3", (1, 2, 3, 0)),
        ("1.2.3.4", (1, 2, 3, 4)),
        ("1.2.0001", (1, 2, 0, 1)),
        ("1.2.3-rc.1", (1, 2, 3, 0)),
        ("1", (0, 0, 0, 0)),
        ("v1.2", (0, 0, 0, 0)),
        ("1.2.3.4.5", (0, 0, 0, 0)),
        ("12345678901.0", (0, 0, 0, 0)),
        ("\u0661.\u0662", (0, 0, 0, 0)),
    ],
)
def test_versions(text: str, parts: tuple[int, ...]) -> None:
    """Two to four parts of ASCII digits are a version, everything else is 0.0.0.0; a long third part is a tag."""
    assert parse_version(text) == parts
