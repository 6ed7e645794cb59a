"""Flag-log messages as isolates of a busy site write them: fresh units and resolve ids in every one.

A third of the flags match nothing, every fifth comes after a fall-through; names are as long as Confidence makes them.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from messages import AT_MS, Decided, Fallthrough, Request, body, decided, no_match, request

from log_consumer.rebuild import read_message

ISOLATE_COUNT = 40
TEMPLATE_COUNT = 64
COUNTRIES = ("SE", "DE", "US")
SCHEMA = {"visitor_id": "STRING_KIND", "country": "STRING_KIND", "user.plan": "STRING_KIND", "user.age": "NUMBER_KIND"}
LATENCY = {"sum_us": 913, "count": 5, "buckets": {"36": 1, "38": 2, "41": 1, "52": 1}}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a message holds; `name` as in the report."""

    name: str
    request_count: int
    flag_count: int
    form: str = "flag_log"  # as log_consumer/load.py has it

    @property
    def exposure_count(self) -> int:
        return self.request_count * self.flag_count


SHAPES = (
    Shape("3 exposures", 1, 3),
    Shape("14 exposures", 1, 14),
    Shape("50 exposures", 5, 10),
    Shape("50 exposures of one request", 1, 50),
    Shape("upstream, 3 exposures", 1, 3, "upstream"),
    Shape("upstream, 14 exposures", 1, 14, "upstream"),
    Shape("upstream, 50 exposures", 1, 50, "upstream"),
)


def make_messages(shape: Shape, count: int, draw: random.Random) -> Iterator[str]:
    """`count` messages of ISOLATE_COUNT isolates, each with its own sequence."""
    isolates = [f"{draw.getrandbits(128):022x}"[:22] for _ in range(ISOLATE_COUNT)]
    templates = itertools.cycle([_make_template(shape, number) for number in range(TEMPLATE_COUNT)])
    for number, template in zip(range(count), templates, strict=False):
        text = template.replace("@isolate", isolates[number % ISOLATE_COUNT])
        text = text.replace('"seq":0,', f'"seq":{number // ISOLATE_COUNT},', 1)
        for place in range(shape.request_count):
            text = text.replace(f"@unit{place}", str(uuid.UUID(int=draw.getrandbits(128))))
            text = text.replace(f"@resolve{place}", f"{draw.getrandbits(128):032x}")
        yield text


def _make_template(shape: Shape, number: int) -> str:
    """A message with places for what is its own; upstream's is what Confidence is told of ours."""
    requests = (
        _make_request(shape, number * shape.request_count + place, place) for place in range(shape.request_count)
    )
    text = body(
        *requests,
        isolate="@isolate",
        schemas=[{"client": 0, "schema": SCHEMA, "semantic_types": {"country": "country_code"}}],
        telemetry={"resolve_count": shape.request_count, "error_count": 0, "latency": LATENCY},
    )
    return read_message(text).to_json().decode() if shape.form == "upstream" else text


def _make_request(shape: Shape, number: int, place: int) -> Request:
    flags = (_make_decided(number + index, index, f"@unit{place}") for index in range(shape.flag_count))
    return request(*flags, resolve_id=f"@resolve{place}", at_ms=AT_MS + 37 * number, country=COUNTRIES[number % 3])


def _make_decided(draw: int, index: int, unit: str) -> Decided:
    flag = f"flags/storefront-feature-{index:02d}"
    if draw % 3 == 0:
        return no_match(flag)
    holdout = Fallthrough(rule=f"{flag}/rules/holdout", segment="segments/holdout", unit=unit)
    variant = f"{flag}/variants/{('control', 'treatment')[draw % 2]}"
    return decided(
        flag=flag,
        rule=f"{flag}/rules/{_make_id(index)}",
        segment=f"segments/{_make_id(index + 1000)}",
        variant=variant,
        assignment_id=variant,
        unit=unit,
        fallthroughs=(holdout,) if index % 5 == 0 else (),
    )


def _make_id(number: int) -> str:
    """Twenty characters, as Confidence names rules and segments."""
    return f"{uuid.uuid5(uuid.NAMESPACE_OID, str(number)).hex}"[:20]
