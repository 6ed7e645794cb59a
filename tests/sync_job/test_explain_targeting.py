"""Explanations of targeting: criteria, expressions and segments in words."""

from __future__ import annotations

from typing import Any

import pytest
from builders import (
    rule,
    split,
)
from explained import by, ruled, told
from segments import (
    all_of,
    and_,
    any_of,
    bloom_filter,
    boolean,
    contains,
    ends_with,
    eq,
    in_materialized,
    in_range,
    in_segment,
    not_,
    one_of,
    or_,
    segment,
    starts_with,
    timestamp,
    version,
)

from flagedge.wire.state_pb2 import Criterion
from sync_job.materializations import Materializations, Record


@pytest.mark.parametrize(
    ("criterion", "value", "line"),
    [
        (eq("n", "a"), "a", 'n is "a"? yes, it is "a"'),
        (eq("n", None), 5, "n is missing or null? no, it is 5"),
        (eq("n", boolean()), "TRUE", 'n is true? yes, it is "TRUE", read as true'),
        (eq("n", 5), "5.0", 'n is 5? yes, it is "5.0", read as 5'),
        (eq("n", version("1.2")), "v1.2", 'n is version 1.2? no, it is "v1.2", read as 0.0.0.0'),
        (one_of("n"), 1, "n is one of nothing? no, it is 1"),
        (one_of("n", *range(12)), 1, "n is one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2 more? yes, it is 1"),
        (one_of("n", 1, ["b", None]), 2, 'n is one of 1, ["b", null]? no, it is 2'),
        (in_range("n", at_least=1, below=2.5), 2, "n is at least 1 and below 2.5? yes, it is 2"),
        (in_range("n", above=1), {"a": 1}, 'n is above 1? no, it is {"a": 1}'),
        (in_range("n"), 1, "n is within no bounds, which nothing is? no, it is 1"),
        (
            in_range("n", at_most=timestamp("2024-01-15T00:00:00.5Z")),
            "2024-01-15 10:00:00",
            'n is at most 2024-01-15T00:00:00.5Z? no, it is "2024-01-15 10:00:00", read as 2024-01-15T10:00:00Z',
        ),
        (
            in_range("n", above=timestamp(0)),
            "2016-12-31T23:59:60Z",
            'n is above 1970-01-01T00:00:00Z? yes, it is "2016-12-31T23:59:60Z", read as 2016-12-31T23:59:60Z',
        ),
        (
            in_range("n", above=timestamp(10**12)),
            1,
            "n is above 1000000000000 s after 1970? no, it is 1, read as 1970-01-01T00:00:01Z",
        ),
        (starts_with("n", "ab"), "abc", 'n starts with "ab"? yes, it is "abc"'),
        (ends_with("n", "ab"), "é", 'n ends with "ab"? no, it is "é"'),
        (contains("n", "x" * 120), "é", f'n contains "{"x" * 99}…? no, it is "é"'),
        (any_of(eq("n", 1)), [2, 1], "some element of n is 1? yes, it is [2, 1]"),
        (all_of(in_range("n", above=1)), [2, 1], "every element of n is above 1? no, it is [2, 1]"),
    ],
)
def test_criteria_in_words(criterion: Criterion, value: Any, line: str) -> None:
    """What was compared with what, what was read out of the value, and whether it holds."""
    assert f"    {line}" in told(ruled(), context={"v": "u", "n": value}, **by(criterion))


def test_a_missing_attribute_is_told_from_null() -> None:
    """Missing and null are the same to a test, and not to whoever looks for the reason."""
    assert "    n is 1? no, it is missing" in told(ruled(), context={"v": "u"}, **by(eq("n", 1)))
    assert "    n is 1? no, it is null" in told(ruled(), context={"v": "u", "n": None}, **by(eq("n", 1)))


def test_expressions_are_told_as_far_as_they_were_asked() -> None:
    """Nesting, negation, and how much was not looked at because the first ones decided."""
    criteria = {"a": eq("a", 1), "b": eq("b", 1), "c": eq("c", 1)}
    built = segment("s", criteria=criteria, expression=and_(not_(or_("a", "b", "c")), "c"))
    lines = told(ruled(), context={"v": "u", "b": 1}, segments=[built])
    assert "rule r: passed over, not in segment s: b is 1? yes, it is 1" in lines
    assert lines[-7:] == [
        "    all of: no",
        "      not: no",
        "        any of: yes",
        "          a is 1? no, it is missing",
        "          b is 1? yes, it is 1",
        "          (1 more not asked, as this decides)",
        "      (1 more not asked, as this decides)",
    ]


def test_many_causes_are_not_put_in_a_line() -> None:
    """Where more than two criteria decided together, the rule's line does not repeat them."""
    criteria = {"a": eq("a", 1), "b": eq("b", 1), "c": eq("c", 1)}
    built = segment("s", criteria=criteria, expression=or_("a", "b", "c"))
    assert "rule r: passed over, not in segment s" in told(ruled(), context={"v": "u"}, segments=[built])


def test_nested_segments_and_cycles() -> None:
    """A segment inside a segment has its own lines; one that asks itself says so."""
    segments = [
        segment("s", criteria={"c": in_segment("t")}, expression=not_("c")),
        segment("t", in_segment("t")),
    ]
    lines = told(ruled(), context={"v": "u"}, segments=segments)
    assert [line.strip() for line in lines if line.lstrip().startswith("segment")] == [
        "segment s: yes",
        "segment t: no",
        "segment t: no, it is what asks",
    ]


def test_materialized_segments() -> None:
    """Who knew whether the unit is in: a bloom filter, the records, or nobody."""
    parts = by(in_materialized("m"))
    line = "    materialized segment m: "
    filtered = told(ruled(), context={"v": "u"}, bloom_filters=[bloom_filter("m", ["u"])], **parts)
    assert f'{line}yes, says its bloom filter of unit "u"' in filtered
    recorded = Materializations([Record("u", "m", "any")])
    assert f'{line}yes, unit "u" has a record in it' in told(ruled(), context={"v": "u"}, known=recorded, **parts)
    none = told(ruled(), context={"v": "u"}, known=Materializations(), **parts)
    assert f'{line}no, unit "u" has no record in it' in none
    unbound = told(ruled(), context={"v": "u"}, **parts)
    assert f"{line}no sticky assignments are bound" in unbound
    unread = told(ruled(), context={"v": "u"}, known=Materializations(state="unread"), **parts)
    assert f'{line}error, its records of unit "u" could not be read' in unread
    blank = rule(segment="s", assignments=split(x=100))
    assert f"{line}no, as there is no unit" in told(blank, context={}, **parts)
