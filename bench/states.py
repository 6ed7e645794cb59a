"""States to measure on: fresh names, secrets and units in every run, so that nothing can be remembered.

demo: that of Confidence's demo account (3 flags), where there is a copy. wide: 95 flags over 54 segments, nearly all
answered. real: 100 flags, 170 rules, 12 dense bitsets, answers of about 27 KB. large.py makes a much larger one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders import assignment, client, credential, fallthrough, flag, payload, rule, schema, state, variant
from segments import and_, bitset, eq, in_range, in_segment, one_of, or_, segment, starts_with, version

DEMO_STATE = Path("../shared/data/confidence_demo_state.pb")
DEMO_SECRET = "mkjJruAATQWjeY7foFIWfVAcBWnci2YF"
COUNTRIES = ["SE", "NO", "DK", "FI", "DE", "FR", "GB", "US", "BR", "JP"]


@dataclass(frozen=True, slots=True)
class BenchState:
    """A state and how to ask for it."""

    name: str
    payload: bytes
    secret: str
    unit_key: str

    def requests(self, draw: random.Random, count: int) -> Iterator[tuple[str, str]]:
        """Units and the requests' bodies, a new unit in each."""
        for _ in range(count):
            unit = f"{draw.getrandbits(128):032x}"
            context = {
                self.unit_key: unit,
                "country": draw.choice(COUNTRIES),
                "age": draw.randint(16, 80),
                "app": {"version": f"{draw.randint(1, 5)}.{draw.randint(0, 20)}.{draw.randint(0, 9)}"},
                "plan": draw.choice(["free", "plus", "premium"]),
                "email": f"someone-{draw.getrandbits(32):08x}@example.com",
            }
            body = {"flags": [], "evaluationContext": context, "clientSecret": self.secret, "apply": True}
            yield unit, json.dumps(body)


def word(draw: random.Random) -> str:
    return "".join(draw.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(20))


def segments(draw: random.Random, count: int) -> tuple[list[str], list[Any]]:
    """Names, and segments that nearly everybody is in: countries, ages, versions, plans, and each other."""
    names = [word(draw) for _ in range(count)]
    made = []
    for number, name in enumerate(names):
        criteria = {
            "country": one_of("country", *draw.sample(COUNTRIES, 9)),
            "age": in_range("age", at_least=16, below=draw.randint(70, 81)),
            "version": in_range("app.version", at_least=version("1.0.0")),
            "email": starts_with("email", "someone"),
        }
        if number > 10 and number % 9 == 0:
            criteria["nested"] = in_segment(names[number - 7])
        chosen = draw.sample(sorted(criteria), draw.randint(1, 3))
        criteria["free"] = eq("plan", "free")
        made.append(segment(name, criteria=criteria, expression=or_(and_(*chosen), and_("free", *chosen))))
    return names, made


def experiment(draw: random.Random, names: list[str], *, rules: int, fields: int) -> Any:
    """A flag with `rules` rules, all but the last falling through now and then, and values of `fields` texts."""
    selector = "visitor_id"
    made = [
        rule(word(draw), segment=draw.choice(names), selector=selector, bucket_count=10_000,
             assignments=[fallthrough((0, 10_000))] if number < rules - 1 else _thirds())
        for number in range(rules)
    ]  # fmt: skip
    values = [
        variant(name, {f"field_{number}": f"{name} {word(draw)}" for number in range(fields)} | {"size": draw.random()})
        for name in ("control", "first", "second")
    ]
    types = {f"field_{number}": str for number in range(fields)} | {"size": float}
    return flag(word(draw), *made, variants=values, schema=schema(types))


def _thirds() -> list[Any]:
    return [
        assignment("control", (0, 3_400)),
        assignment("first", (3_400, 6_700)),
        assignment("second", (6_700, 10_000)),
    ]


def demo() -> BenchState:
    return BenchState("demo", DEMO_STATE.read_bytes(), DEMO_SECRET, "visitor_id")


def wide(draw: random.Random) -> BenchState:
    names, made = segments(draw, 54)
    secret = word(draw)
    flags = [experiment(draw, names, rules=1, fields=1) for _ in range(95)]
    built = state(*flags, segments=made, clients=[client()], credentials=[credential(secret=secret)])
    return BenchState("wide", payload(built, word(draw)), secret, "visitor_id")


def real(draw: random.Random) -> BenchState:
    names, made = segments(draw, 60)
    secret = word(draw)
    with_bits = draw.sample(names, 12)
    # Half of the rules are on a segment with a bitset, so that about 60 of 100 flags are answered with a variant.
    drawn = names + with_bits * 4
    flags = [experiment(draw, drawn, rules=2 if number < 70 else 1, fields=2) for number in range(100)]
    bits = [bitset(name, share=0.2, seed=draw.randint(0, 10**6)) for name in with_bits]
    built = state(*flags, segments=made, bitsets=bits, clients=[client()], credentials=[credential(secret=secret)])
    return BenchState("real", payload(built, word(draw)), secret, "visitor_id")
