"""The vocabulary of generated cases: what can be chosen, how often, and the words that states and contexts share.

`TABLES` is the list of everything a case can have: each choice of the generator names a table, each option is a
feature, and `FEATURES` is what a long enough run has to hit. Source: the resolver specification, sections 2 and 3.
"""

from __future__ import annotations

TABLES: dict[str, dict[str, float]] = {
    # --- flags and rules
    "flag state": {"active": 14, "archived": 0.7, "unspecified": 0.3},
    "flag clients": {"first": 10, "both": 3, "second": 0.5, "none": 0.3},
    "rule": {"enabled": 12, "disabled": 1},
    "rule segment": {"own": 8, "everybody": 3, "shared": 2, "missing": 0.4, "no slash": 0.1},
    "last rule": {"as any": 5, "catch-all": 6},
    "rule environments": {"none": 14, "matching": 1, "other": 0.7, "several": 0.5},
    "assignments": {
        "full": 6, "split": 4, "gaps": 1, "overlap": 1, "several ranges": 1.5, "two halves": 0.6, "zero count": 0.3,
        "zero count split": 0.05, "no assignments": 0.2, "no spec": 0.3, "inverted": 0.2, "empty ranges": 0.2,
        "one bucket": 0.5,
    },
    "assignment": {"variant": 14, "fallthrough": 2, "client default": 1.2, "unset": 0.4, "missing variant": 0.05},
    "bucket count": {"2": 1, "10": 3, "100": 3, "1000": 2, "10007": 1, "1000000": 0.5},
    "selector": {"blank": 4, "visitor_id": 5, "targeting_key": 1, "nested": 1, "missing": 0.4, "odd": 0.4},
    "materialization": {"none": 18, "empty": 0.3, "write": 0.5, "read": 0.5, "read and write": 0.8},
    "read mode": {"absent": 1, "plain": 1, "must match": 1, "ignore targeting": 1, "both": 1},
    # --- variants and schemas
    "variant value": {
        "flat": 5, "nested": 2, "nulls": 2, "numbers": 2, "lists": 1, "empty": 0.5, "absent": 0.3, "odd keys": 0.7,
    },
    "schema": {"none": 2, "flat": 3, "nested": 3, "lists": 1, "mismatched": 1, "empty": 0.4},
    # --- segments
    "targeting": {
        "one": 8, "everybody": 2, "and": 3, "or": 2, "not": 1.5, "nested": 3, "no expression": 0.7,
        "kindless expression": 0.3, "no criteria": 0.3, "self-negation": 0.4, "diamond": 0.5,
    },
    "expression": {
        "ref": 8, "not": 2, "and": 2, "or": 2, "empty and": 0.4, "empty or": 0.4, "kindless": 0.2, "unknown ref": 0.4,
    },
    "criterion": {"attribute": 16, "segment": 2.5, "materialized segment": 0.5, "kindless": 0.2},
    "segment criterion": {"any": 6, "itself": 0.5, "unknown": 0.4},
    "bitset": {
        "none": 14, "full": 0.6, "unset": 0.3, "sparse": 0.6, "dense": 1.2, "empty": 0.3, "all zero": 0.3,
        "all set": 0.6, "unit in": 0.7, "unit out": 0.5, "unit at the end": 0.6, "unit past the end": 0.5, "long": 0.2,
    },
    "bloom filter": {"none": 4, "holds units": 2, "empty": 1, "other strategy": 0.4, "no hashes": 0.4},
    # --- targeting rules
    "attribute rule": {
        "eq": 7, "set": 4, "range": 5, "any": 3, "all": 3, "starts with": 1.5, "ends with": 1.5, "contains": 1.5,
        "none": 0.2,
    },
    "inner rule": {
        "eq": 4, "set": 3, "range": 4, "starts with": 1, "ends with": 1, "contains": 1, "absent": 0.3, "kindless": 0.3,
    },
    "eq value": {"value": 14, "kindless": 1, "absent": 0.4},
    "set values": {"one kind": 8, "mixed kinds": 1.5, "empty": 0.4},
    "range": {"both": 5, "start": 3, "end": 3, "none": 0.5, "mixed kinds": 0.5},
    "start bound": {"inclusive": 1, "exclusive": 1},
    "end bound": {"inclusive": 1, "exclusive": 1},
    "value kind": {
        "own": 18, "text": 0.5, "number": 0.1, "bool": 0.5, "timestamp": 0.5, "version": 0.5, "list": 0.5,
                   "kindless": 0.3},
    "attribute": {
        "text": 6, "number": 4, "bool": 2, "timestamp": 3, "version": 3, "text list": 2, "number list": 2,
        "built-in name": 1.2, "odd path": 1,
    },
    # --- clients
    "credential environments": {"none": 5, "one": 5, "several": 1},
    "managed context": {"none": 12, "plain": 0.7, "nested": 0.7, "null": 0.4, "targeting_key": 0.3},
    # --- requests
    "evaluation context": {"given": 40, "empty": 0.7, "absent": 0.5},
    "context value": {
        "meets": 13, "another operand": 2, "boundary": 3, "other kind": 0.7, "null": 0.6, "absent": 0.6, "any": 0.5,
        "list": 0.8, "nested list": 0.3, "empty list": 0.3, "list with null": 0.3, "mixed list": 0.15, "struct": 0.2,
        "null text": 0.15, "literal dotted key": 0.2,
    },
    "timestamp form": {
        "zulu": 4, "offset": 2, "local": 2, "space": 1, "fraction": 1, "date": 1, "sloppy": 1, "seconds": 2,
        "milliseconds": 2, "fractional seconds": 1, "garbage": 1, "leap second": 0.5,
    },
    "number form": {"number": 12, "text": 1.5, "text with exponent": 0.5, "text with plus": 0.5, "not a number": 0.06},
    "unit": {
        "text": 20, "absent": 1, "empty": 0.7, "int": 2, "fraction": 0.5, "huge": 0.5, "negative zero": 0.3,
        "bool": 0.3, "list": 0.3, "struct": 0.3, "null": 0.5, "100 bytes": 0.4, "101 bytes": 0.4,
        "100 bytes multibyte": 0.3, "101 bytes multibyte": 0.3, "astral": 0.5,
    },
    "flags filter": {"all": 16, "some": 2, "unknown": 0.6, "duplicate": 0.6},
    "secret": {"first": 20, "second": 3, "unknown": 0.1},
    "apply": {"yes": 1, "no": 1},
}  # fmt: skip

FEATURES = frozenset(f"{table}: {option}" for table, options in TABLES.items() for option in options)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "text": ("country", "plan", "user.plan", "user.address.city"),
    "number": ("n", "user.age", "cart.value"),
    "bool": ("beta", "user.staff"),
    "timestamp": ("created", "user.born"),
    "version": ("version", "app.version"),
    "text list": ("tags", "user.groups"),
    "number list": ("scores", "user.limits"),
    "built-in name": (
        "constructor", "__proto__", "toString", "hasOwnProperty", "user.constructor", "__proto__.plan", "length",
    ),
    "odd path": ("", ".", "a..b", "user.", ".user", "ключ", "😀", "with space", "tags.0"),
}  # fmt: skip
"""Attribute paths by what usually stands there; the last two usually hold text."""

TEXTS = (
    "SE", "NO", "se", "", "null", "true", "TRUE", "True", "false", "5", "5.0", "premium", "prem", "é", "e\u0301",
    "\uffff", "😀", "\U0010ffff", "a\u0000b", "SE ", "ﬀ", "constructor", "premium-plus", "mium",
)  # fmt: skip
NUMBERS = (
    0.0, -0.0, 1.0, 5.0, 18.0, -3.0, 2.5, 0.1, 0.30000000000000004, 100.0, 1e21, 1e23, 1e-7, 5e-324, 9007199254740992.0,
    1.7976931348623157e308, 1700000000.0,
)  # fmt: skip
VERSIONS = (
    "1.2", "1.2.0", "1.2.3", "1.2.1000", "1.2.0001", "1.10.0", "2.0.0", "2.0.0-rc.1", "1.2.3.4", "0.0.0", "v1.2", "",
    "1", "1.2.3.4.5", "garbage", "1.2.3+7", "4294967295.0", "12345678901.0", "9999999999.1", "01.02.03", "1..2", "-1.2",
    "1.2.",
)  # fmt: skip
MOMENTS = (
    (1705314030, 0), (1705314030, 123_000_000), (1705276800, 0), (0, 0), (-1, 0), (-126037258770, 0), (1735689599, 0),
    (1735689599, 1_000_000_000), (1735689600, 0), (253402300799, 999_999_999), (8210266876799, 0), (1000000000000, 0),
)  # fmt: skip
"""(seconds, nanos); the one with 10^9 nanoseconds is a leap second."""
GARBAGE_MOMENTS = (
    "2024-01-15T10:20Z", "20240115", " 2024-01-15", "2024-01-15 ", "2024-02-30", "2024-01-15T24:00:00", "", "now",
    "2024-01-15t10:20:30z", "2024-01-15T10:20:30z", "2024-01-15T10:20:30+0200", "2024-01-15T10:20:30.", "12024-01-15",
    "2024-13-01", "2024-01-15T10:20:30Z ", "T10:20:30", "2024-01-15T10:20:61Z", "1705314030", "\uff12024-01-15",
)  # fmt: skip
SLOPPY_MOMENTS = (
    "2024-1-15", "+2024-01-15", "2024-1-15T1:2:3", "2024-01-15  10:20:30", "2024-01-15T 10:20:30", "+12024-01-15",
    "-0001-12-31", "2024-01-15T10:20:60", "2024-01-15 10:20:30Z", "2024- 1-15", "2024-01-15T10:20:30.1234567891",
    "2024-01-15T10:20:30.5",
)  # fmt: skip

UNITS = ("user-1", "user-2", "tutorial_visitor", "a", "0", "null", "ünït", "user:1%2")
MATERIALIZATIONS = ("mat-1", "mat:2")
ENVIRONMENTS = ("production", "staging", "test")
SECRETS = ("first-secret", "second-secret")
