"""New fields: refused where they may decide something and somebody asks for it, passed over where nobody reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from builders import (
    all_of,
    and_,
    any_of,
    assignment,
    bitset,
    bloom_filter,
    contains,
    eq,
    flag,
    in_materialized,
    in_range,
    in_segment,
    list_of,
    materialization,
    not_,
    one_of,
    or_,
    rule,
    schema,
    segment,
    starts_with,
    state,
)
from doubtful_states import NEW_FIELD, allocated, noted, on_segment, refused, validate, with_new_field
from oracle import encode_field

from flagedge.wire.state_pb2 import Criterion, Expression, Flag, ResolverState
from sync_job.fields import UNREAD_FIELDS, allocated_share
from sync_job.findings import Finding


def rich_state() -> ResolverState:
    """A state with every message that decides something, all of them asked for by flags/a."""
    where = [
        eq("n", list_of(1, 2)),
        one_of("country", "SE", "NO"),
        in_range("age", at_least=18),
        any_of(starts_with("tags", "x")),
        all_of(contains("tags", "y")),
        in_segment("inner"),
        in_materialized("m"),
    ]
    return state(
        flag(
            "a",
            rule(
                segment="s",
                assignments=[assignment("on", (0, 50)), assignment("off", (50, 100))],
                materialization=materialization("m", "m", must_match=True),
            ),
            schema=schema({"name": str, "sub": {"ids": [int]}}),
        ),
        segments=[
            segment("s", *where),
            segment("inner", criteria={"c": eq("n", 1)}, expression=or_(and_("c"), not_("c"))),
        ],
        bitsets=[bitset("inner", [1])],
        bloom_filters=[bloom_filter("m", ["u"])],
    )


def criteria(built: ResolverState) -> Any:
    return built.segments_no_bitsets[0].targeting.criteria


def spec(built: ResolverState) -> Any:
    return built.flags[0].rules[0].assignment_spec


def inner(built: ResolverState) -> Any:
    return built.segments_no_bitsets[1].targeting


DECIDING = {
    "Flag": lambda built: built.flags[0],
    "StructFlagSchema": lambda built: built.flags[0].schema,
    "FlagSchema": lambda built: built.flags[0].schema.schema["name"],
    "ListFlagSchema": lambda built: built.flags[0].schema.schema["sub"].struct_schema.schema["ids"].list_schema,
    "IntFlagSchema": lambda built: (
        built.flags[0].schema.schema["sub"].struct_schema.schema["ids"].list_schema.element_schema.int_schema
    ),
    "Variant": lambda built: built.flags[0].variants[1],
    "Rule": lambda built: built.flags[0].rules[0],
    "AssignmentSpec": spec,
    "Assignment": lambda built: spec(built).assignments[1],
    "VariantAssignment": lambda built: spec(built).assignments[1].variant,
    "BucketRange": lambda built: spec(built).assignments[1].bucket_ranges[0],
    "MaterializationSpec": lambda built: built.flags[0].rules[0].materialization_spec,
    "ReadMode": lambda built: built.flags[0].rules[0].materialization_spec.mode,
    "Segment": lambda built: built.segments_no_bitsets[1],
    "Targeting": inner,
    "Expression": lambda built: getattr(inner(built).expression, "or").operands[0],
    "Operands": lambda built: getattr(getattr(inner(built).expression, "or").operands[0], "and"),
    "Criterion": lambda built: criteria(built)["c0"],
    "AttributeCriterion": lambda built: criteria(built)["c0"].attribute,
    "EqRule": lambda built: criteria(built)["c0"].attribute.eq_rule,
    "TargetingValue": lambda built: criteria(built)["c0"].attribute.eq_rule.value.list_value.values[1],
    "List": lambda built: criteria(built)["c0"].attribute.eq_rule.value.list_value,
    "SetRule": lambda built: criteria(built)["c1"].attribute.set_rule,
    "RangeRule": lambda built: criteria(built)["c2"].attribute.range_rule,
    "ListRule": lambda built: criteria(built)["c3"].attribute.any_rule,
    "InnerRule": lambda built: criteria(built)["c4"].attribute.all_rule.rule,
    "TextRule": lambda built: criteria(built)["c4"].attribute.all_rule.rule.contains_rule,
    "SegmentCriterion": lambda built: criteria(built)["c5"].segment,
    "MaterializedSegmentCriterion": lambda built: criteria(built)["c6"].materialized_segment,
    "PackedBitset": lambda built: built.bitsets[0],
    "BloomFilter": lambda built: built.bloom_filters[0],
}
"""By name, where `rich_state` has each message that decides something."""


def test_rich_state_is_accepted() -> None:
    """The state into which the new fields are put is fine without them."""
    assert validate(rich_state()) == ()


@pytest.mark.parametrize("name", DECIDING)
def test_new_field(name: str) -> None:
    """A field that is not known is refused in each message that decides something, and message and flag are named."""
    built = rich_state()
    with_new_field(DECIDING[name](built))
    [(finding, [text])] = refused(built).items()
    assert finding is Finding.FIELD_UNKNOWN
    assert text.startswith(f"{name} field {NEW_FIELD} in ")
    assert "flags/a" in text


@pytest.mark.parametrize(
    "hide",
    [
        lambda built: setattr(built.flags[0], "state", Flag.ARCHIVED),
        lambda built: built.flags[0].ClearField("clients"),
        lambda built: setattr(built.flags[0].rules[0], "enabled", False),
        lambda built: setattr(built.flags[0].rules[0], "segment", "segments/gone"),
    ],
    ids=["archived flag", "flag of no client", "disabled rule", "rule without a segment"],
)
def test_what_nobody_asks_for_may_be_new(hide: Callable[[ResolverState], None]) -> None:
    """New fields below flags and rules that are not served are nobody's problem."""
    built = rich_state()
    below = [name for name in DECIDING if not name.endswith("Schema") and name not in ("Flag", "Variant")]
    for name in below:
        with_new_field(DECIDING[name](built))
    hide(built)
    built.flags.append(flag("b"))
    built.segments_no_bitsets.append(segment("everybody"))
    assert Finding.FIELD_UNKNOWN not in noted(built)


def test_criterion_that_no_expression_names_may_be_new() -> None:
    """A criterion of a new kind decides nothing until an expression names it."""
    built = on_segment(segment("s", criteria={"new": Criterion(), "c": eq("n", 1)}, expression="c"))
    with_new_field(built.segments_no_bitsets[0].targeting.criteria["new"])
    assert noted(built) == {}


def test_flags_behind_a_segment_are_named() -> None:
    """Every flag that asks for a segment with something new is named, through other segments too; the first three."""
    built = state(
        *(flag(name, rule(segment="outer")) for name in "abcd"),
        flag("direct", rule(segment="new")),
        flag("other"),
        segments=[segment("outer", in_segment("new")), segment("new", eq("n", 1))],
    )
    with_new_field(built.segments_no_bitsets[2].targeting.criteria["c0"])
    [[text]] = refused(built).values()
    assert text == "Criterion field 50 in segments/new (flags/direct, flags/a, flags/b, 2 more)"


def test_fields_that_nobody_reads() -> None:
    """Names, labels, times and identities are passed over without a word."""
    built = rich_state()
    messages = [
        built,
        built.flags[0],
        built.flags[0].variants[0],
        built.flags[0].rules[0],
        built.segments_no_bitsets[0],
        built.clients[0],
        built.client_credentials[0],
    ]
    assert {message.DESCRIPTOR.full_name for message in messages} == UNREAD_FIELDS.keys()
    for message in messages:
        numbers = UNREAD_FIELDS[message.DESCRIPTOR.full_name]
        assert numbers.isdisjoint(message.DESCRIPTOR.fields_by_number)
        for number in numbers:
            with_new_field(message, number)
    assert validate(built) == ()


def test_new_fields_in_deep_expressions() -> None:
    """However deep an expression nests, what is new in it is found."""
    expression = Expression(ref="c")
    with_new_field(expression)
    for _ in range(80):
        expression = not_(expression)
    built = on_segment(segment("s", criteria={"c": eq("n", 1)}, expression=expression))
    assert list(refused(built)) == [Finding.FIELD_UNKNOWN]


@pytest.mark.parametrize(
    ("share", "read"), [(b"0.5556", 0.5556), (b"0", 0.0), (b"1", 1.0), (b"1.0", 1.0), (b"", 1.0), (b"half", 1.0)]
)
def test_allocated_share(share: bytes, read: float) -> None:
    """The share of a segment is read from its allocation; what is no number is everybody."""
    assert allocated_share(allocated(share)) == read


@pytest.mark.parametrize("allocation", [b"\xff", b"", encode_field(1, b"\xff"), encode_field(2, b"x"), b"\x08\x05"])
def test_odd_allocations(allocation: bytes) -> None:
    """An allocation that cannot be read says nothing."""
    built = segment("s")
    with_new_field(built, 3, allocation)
    assert allocated_share(built) == 1
