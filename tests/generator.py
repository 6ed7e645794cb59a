"""Generated states: every choice is drawn from a table of `vocabulary.TABLES` and counted.

One generator for two users: fuzz runs hand in a seeded `random.Random` (see `random_case`), hypothesis its own `Random`
(see `strategies.py`). Secrets are ASCII and client names no prefixes of each other: what
upstream does there is a defect that flagedge does not copy.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from typing import TYPE_CHECKING, Any

from builders import (
    ACCOUNT,
    BITSET_LENGTH,
    assignment,
    bitset,
    bloom_filter,
    client,
    client_default,
    credential,
    fallthrough,
    flag,
    materialization,
    payload,
    rule,
    schema,
    state,
    unset_assignment,
    variant,
)
from generator_contexts import RequestGenerator
from generator_segments import SegmentGenerator
from murmur import population_bucket
from vocabulary import ENVIRONMENTS, FEATURES, MATERIALIZATIONS, SECRETS, TABLES, UNITS

from flagedge.wire.state_pb2 import PackedBitset

if TYPE_CHECKING:
    import random

    from flagedge.wire.state_pb2 import BloomFilter, Client, ClientCredential, Flag, ResolverState, Segment
    from flagedge.wire.types_pb2 import StructFlagSchema

VARIANTS = ("on", "off", "third")


class Draw:
    """Choices from a `random.Random`, and a tally of the features they hit."""

    def __init__(self, source: random.Random, tally: Counter[str] | None = None) -> None:
        self.source = source
        self.tally = Counter() if tally is None else tally

    def option(self, table: str) -> str:
        """An option of a table, by its weights."""
        options, sums = _CUMULATED[table]
        chosen = options[bisect(sums, self.source.random() * sums[-1], hi=len(sums) - 1)]
        self.tally[f"{table}: {chosen}"] += 1
        return chosen

    def one(self, items: Any) -> Any:
        """One of the items."""
        return self.source.choice(items)

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return self.source.randint(low, high)

    def chance(self, probability: float) -> bool:
        """True with the probability."""
        return self.source.random() < probability

    def missed(self) -> list[str]:
        """The features that were not hit yet."""
        return sorted(FEATURES - self.tally.keys())


def _cumulated(table: dict[str, float]) -> tuple[list[str], list[float]]:
    sums, total = [], 0.0
    for weight in table.values():
        total += weight
        sums.append(total)
    return list(table), sums


_CUMULATED = {name: _cumulated(table) for name, table in TABLES.items()}


class StateGenerator:
    """Draws a resolver state."""

    def __init__(self, draw: Draw, account: str = ACCOUNT) -> None:
        self._draw = draw
        self._account = account
        self._segments: list[Segment] = []
        self._names: list[str] = []

    def state(self) -> ResolverState:
        """A state of one to four flags, its segments, bitsets, bloom filters, clients and credentials."""
        draw = self._draw
        self._names = [f"s{number}" for number in range(draw.number(1, 5))]
        segments = SegmentGenerator(draw, self._names)
        self._segments = [segments.segment(name) for name in self._names]
        flags = [self._flag(name) for name in "abcd"[: draw.number(1, 4)]]
        no_slash = [segments.bare_segment()] if any(r.segment == "bare" for f in flags for r in f.rules) else []
        return state(
            *flags,
            segments=[*self._segments, *no_slash],
            bitsets=[found for one in self._segments if (found := self._bitset(one.name)) is not None],
            clients=self._clients(),
            credentials=self._credentials(),
            bloom_filters=[found for name in MATERIALIZATIONS if (found := self._bloom_filter(name)) is not None],
        )

    # --- flags

    def _flag(self, name: str) -> Flag:
        draw = self._draw
        rules = [self._rule(f"r{number}") for number in range(draw.number(1, 4))]
        if draw.option("last rule") == "catch-all":
            rules.append(rule("last", assignments=[assignment(draw.one(VARIANTS))]))
        clients = {"first": ["c"], "both": ["c", "d"], "second": ["d"], "none": []}[draw.option("flag clients")]
        state_name = draw.option("flag state").upper()
        return flag(
            name,
            *rules,
            variants=[self._variant(variant_name) for variant_name in VARIANTS],
            schema=self._schema(),
            state="STATE_UNSPECIFIED" if state_name == "UNSPECIFIED" else state_name,
            clients=clients,
        )

    def _rule(self, name: str) -> Flag.Rule:
        draw = self._draw
        assignments, bucket_count = self._assignments()
        selectors = {
            "blank": "",
            "nested": "user.id",
            "missing": "no.such.attribute",
            "odd": draw.one(["n", "tags", ""]),
        }
        selector = draw.option("selector")
        built = rule(
            name,
            assignments=assignments,
            bucket_count=bucket_count,
            selector=selectors.get(selector, selector),
            enabled=draw.option("rule") == "enabled",
            environments=self._rule_environments(),
            materialization=self._materialization(),
        )
        segment = draw.option("rule segment")
        if segment != "everybody":
            known = {"own": draw.one(self._names), "shared": self._names[0]}.get(segment)
            built.segment = f"segments/{known}" if known else {"missing": "segments/gone", "no slash": "bare"}[segment]
        if not assignments and assignments is not None:
            del built.assignment_spec.assignments[:]
        return built

    def _rule_environments(self) -> list[str]:
        draw = self._draw
        kinds = {
            "none": [],
            "matching": [ENVIRONMENTS[0]],
            "other": [ENVIRONMENTS[2]],
            "several": list(ENVIRONMENTS[1:]),
        }
        return kinds[draw.option("rule environments")]

    def _materialization(self) -> Flag.MaterializationSpec | None:
        draw = self._draw
        kind = draw.option("materialization")
        if kind == "none":
            return None
        name = draw.one(MATERIALIZATIONS)
        mode = draw.option("read mode") if "read" in kind else "absent"
        switches = {} if mode == "absent" else {
            "must_match": mode in ("must match", "both"), "ignore_targeting": mode in ("ignore targeting", "both"),
        }  # fmt: skip
        return materialization(name if "write" in kind else "", name if "read" in kind else "", **switches)

    # --- assignments

    def _assignments(self) -> tuple[list[Flag.Assignment] | None, int]:
        """Assignments (None: no spec, empty: a spec without any) and their bucket count."""
        draw = self._draw
        count = int(draw.option("bucket count"))
        kind = draw.option("assignments")
        if kind == "no spec":
            return None, count
        if kind.startswith("zero count"):
            return [self._assignment(0, spans) for spans in _spans(draw, kind, 0)], 0
        return [self._assignment(number, spans) for number, spans in enumerate(_spans(draw, kind, count))], count

    def _assignment(self, number: int, spans: list[tuple[int, int]]) -> Flag.Assignment:
        draw = self._draw
        kind = draw.option("assignment")
        assignment_id = draw.one([f"id-{number}", f"id-{number}", ""])
        match kind:
            case "fallthrough":
                built = fallthrough(*spans, assignment_id=assignment_id)
            case "client default":
                built = client_default(*spans, assignment_id=assignment_id)
            case "unset":
                built = unset_assignment(*spans, assignment_id=assignment_id)
            case _:
                name = "gone" if kind == "missing variant" else VARIANTS[number % len(VARIANTS)]
                built = assignment(name, *spans, assignment_id=assignment_id)
        if not spans:
            del built.bucket_ranges[:]
        return built

    # --- variants

    def _variant(self, name: str) -> Flag.Variant:
        draw = self._draw
        kind = draw.option("variant value")
        values: dict[str, Any] = {
            "flat": {"name": name, "size": draw.number(-3, 9), "on": draw.chance(0.5), "price": 0.1},
            "nested": {"name": name, "sub": {"text": "x", "deep": {"n": 1}}, "extra": {"a": 1}},
            "nulls": {"name": None, "sub": {"text": None}, "size": None},
            "numbers": {
                "size": draw.one([9007199254740993.0, -0.0, 1e21, 1e-7]),
                "price": draw.one([5e-324, 1e308, 2.5]),
            },
            "lists": {"tags": ["a", None, {"x": None}, [1, []]], "sub": []},
            "empty": {},
            "absent": None,
            "odd keys": {"__proto__": {"x": 1}, "constructor": name, "": 1, "a.b": True, "😀": "\uffff", "1": "one"},
        }
        return variant(name, values[kind])

    def _schema(self) -> StructFlagSchema | None:
        flat: dict[str, Any] = {"name": str, "size": int, "price": float, "on": bool}
        deep = {"text": str, "missing": int, "deep": {"n": int, "more": {"z": bool}}}
        kinds: dict[str, Any] = {
            "flat": flat,
            "nested": {**flat, "sub": deep, "extra": None, "gone": {"z": int}},
            "lists": {"tags": [str], "sub": [{"text": str}], "matrix": [[float]]},
            "mismatched": {
                "name": {"x": int},
                "sub": str,
                "tags": {"x": int},
                "__proto__": {"y": int},
                "constructor": str,
            },
            "empty": {},
        }
        kind = self._draw.option("schema")
        return None if kind == "none" else schema(kinds[kind])

    # --- bitsets, bloom filters, clients

    def _bitset(self, name: str) -> PackedBitset | None:
        draw = self._draw
        kind = draw.option("bitset")
        bit = population_bucket(self._account, draw.one(UNITS))
        match kind:
            case "none":
                return None
            case "full":
                return bitset(name, full=True)
            case "unset":
                return PackedBitset(segment=name)
            case "sparse" | "dense":
                return bitset(name, share=0.05 if kind == "sparse" else 0.9, seed=draw.number(0, 2))
            case "unit in" | "unit out":
                near = range(max(0, bit - 3), min(BITSET_LENGTH, bit + 4))
                return bitset(name, [index for index in near if (index == bit) == (kind == "unit in")])
        whole = {
            "empty": 0, "all zero": 125_000, "all set": draw.one([125_000, 60_000]), "unit at the end": (bit >> 3) + 1,
            "unit past the end": bit >> 3, "long": 250_000,
        }[kind]  # fmt: skip
        return bitset(name, (b"\x00" if kind == "all zero" else b"\xff") * whole)

    def _bloom_filter(self, name: str) -> BloomFilter | None:
        kind = self._draw.option("bloom filter")
        match kind:
            case "none":
                return None
            case "other strategy":
                return bloom_filter(name, UNITS, strategy=2)
            case "no hashes":
                return bloom_filter(name, hash_count=0)
        return bloom_filter(name, UNITS[:3] if kind == "holds units" else (), bit_count=self._draw.one([960, 61, 1000]))

    def _clients(self) -> list[Client]:
        managed = {
            "none": None,
            "plain": {"country": "SE", "n": 5, "visitor_id": "user-1"},
            "nested": {
                "user": {"plan": "premium", "address": {"city": "SE"}},
                "app": {"version": "1.2.3"},
                "tags": ["SE"],
            },
            "null": {"country": None, "user": None, "version": None},
            "targeting_key": {"targeting_key": self._draw.one(["user-2", 5, None])},
        }
        return [client("c", managed=managed[self._draw.option("managed context")]), client("d")]

    def _credentials(self) -> list[ClientCredential]:
        kinds = {"none": (), "one": ENVIRONMENTS[:1], "several": ENVIRONMENTS[:2]}
        environments = kinds[self._draw.option("credential environments")]
        return [
            credential("k", client="c", secret=SECRETS[0], environments=environments),
            credential("k", client="d", secret=SECRETS[1]),
        ]


def _spans(draw: Draw, kind: str, count: int) -> list[list[tuple[int, int]]]:
    """The bucket ranges of each assignment of a rule."""
    cut = draw.number(0, count)
    low, high = sorted((cut, draw.number(0, count)))
    every = {
        "full": [[(0, count)]],
        "zero count": [[(0, 0)]],
        "zero count split": [[(0, 0)], [(0, 1)]],
        "split": [[(0, low)], [(low, high)], [(high, count)]],
        "gaps": [[(0, low)], [(high, count)]],
        "overlap": [[(0, high)], [(low, count)], [(0, count)]],
        "several ranges": [[(0, low), (high, count)], [(low, high)]],
        "two halves": [[(0, cut), (cut, count)]],
        "no assignments": [],
        "inverted": [[(high, low)], [(0, count)]],
        "empty ranges": [[], [(low, low)], [(0, count)]],
        "one bucket": [[(cut, cut + 1)], [(0, count)]],
    }
    return every[kind]


def random_case(
    source: random.Random, *, requests: int = 4, tally: Counter[str] | None = None
) -> tuple[bytes, list[dict[str, Any]]]:
    """A state as the CDN serves it and requests in HTTP JSON shape; `tally` counts the features that were hit."""
    draw = Draw(source, tally)
    built = StateGenerator(draw).state()
    near = RequestGenerator(draw, built)
    return payload(built), [near.request() for _ in range(requests)]
