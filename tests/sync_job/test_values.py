"""Readings, units and criteria of the evaluator, held against official vectors and the official resolver."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from builders import SECRET, flag, payload, request, rule, state
from differences import Tally
from evaluated import compare_evaluated_case
from segments import (
    all_of,
    any_of,
    boolean,
    contains,
    eq,
    in_range,
    not_,
    one_of,
    or_,
    packed_bits,
    segment,
    starts_with,
    timestamp,
    version,
)
from shared_files import SHARED
from workerd import TestWorker

from flagedge.errors import DecodeError
from flagedge.wire.state_pb2 import Criterion
from sync_job.bitsets import store_bits
from sync_job.compile import compile_plan
from sync_job.decode import decode_state
from sync_job.units import UnitError, bucket, is_bit_set, is_in_bloom, murmur3_x64_128, unit_text
from sync_job.values import Version, decimal_text, parse_number, parse_timestamp, read_context, timestamp_of_number

Vector = dict[str, Any]


def moment(vector: Vector) -> Any:
    return (vector["seconds"], vector["nanos"]) if vector["outcome"] == "ts" else None


def parts(found: Any) -> Any:
    return None if found is None else (found.seconds, found.nanos)


VECTORS: dict[str, tuple[Callable[[Vector], Any], Callable[[Vector], Any]]] = {
    "murmur3_x64_128": (
        lambda v: [f"{word:016x}" for word in murmur3_x64_128(bytes.fromhex(v["input_hex"]))],
        lambda v: [v["low64_hex"], v["high64_hex"]],
    ),
    "population_bucket": (lambda v: bucket(v["salted"], v["buckets"]), lambda v: v["bucket"]),
    "variant_bucket": (lambda v: bucket(v["key"], v["bucket_count"]), lambda v: v["bucket"]),
    "number_to_string": (lambda v: decimal_text(float(v["number"])), lambda v: v["rust"]),
    "string_to_number": (
        lambda v: "ERROR" if (found := parse_number(v["input"])) is None else repr(found),
        lambda v: v["result"] if isinstance(v["result"], str) else repr(v["result"]),
    ),
    "timestamp_string": (lambda v: parts(parse_timestamp(v["input"])), moment),
    "timestamp_number": (
        lambda v: parts(timestamp_of_number(float(v["input"]))),
        moment,
    ),
    "semver_compare": (
        lambda v: [
            (left := Version.of(v["context"]).parts) < (right := Version.of(v["rule"]).parts),
            left <= right,
        ],
        lambda v: [v["lt"], v["le"]],
    ),
    "string_lt": (lambda v: v["context"] < v["rule"], lambda v: v["lt"]),
}


@pytest.mark.parametrize("kind", VECTORS)
def test_vectors(kind: str, reference_vectors: dict[str, list[Vector]]) -> None:
    """Every vector of the kind gives the official result."""
    found, expected = VECTORS[kind]
    vectors = reference_vectors[kind]
    assert [vector for vector in vectors if found(vector) != expected(vector)] == []


def test_units(reference_vectors: dict[str, list[Vector]]) -> None:
    """Values are units, none or refused as the vectors say."""
    for vector in reference_vectors["targeting_key"]:
        value = vector["value"]
        if isinstance(value, str) and (found := parse_number(value)) is not None and value != "0":
            value = found
        if vector["reason"] == 5:
            with pytest.raises(UnitError):
                unit_text(value)
        else:
            assert unit_text(value) == vector["unit"], vector


def test_bloom_filters(reference_vectors: dict[str, list[Vector]]) -> None:
    """Bloom filters hold what the vectors say."""
    for vector in reference_vectors["bloom"]:
        stored = SHARED / "reference" / vector["data_ref"] if vector["data_ref"] else None
        if stored is not None and not stored.exists():
            continue
        data = base64.b64decode(stored.read_text() if stored else vector["data_b64"])
        bloom = [vector["hash_function_count"], vector["bit_count"], 3, len(data)]
        assert is_in_bloom(bloom, b"abc" + data, vector["key"]) == vector["might_contain"], vector["key"]


@pytest.mark.parametrize(
    "bits",
    [
        bytes(125_000),
        b"\xff" * 125_000,
        b"\xff" * 50_000 + bytes(75_000),
        packed_bits(random.Random(1).sample(range(1_000_000), 500_000)),
        packed_bits([0, 7, 8, 999_999]),
        packed_bits(range(100, 200), 1000),
        packed_bits(random.Random(3).sample(range(1000), 500), 1000),
        b"",
    ],
)
def test_bits_are_found_in_every_form(bits: bytes) -> None:
    """However a bitset is stored, each bit is what it was; beyond the end there is none."""
    stored = store_bits(bits)
    known = [0, 7, 8, 99, 100, 199, 200, 999_999, *random.Random(2).sample(range(1_000_000), 300)]
    for position in known:
        is_set = position >> 3 < len(bits) and bits[position >> 3] >> (position & 7) & 1 == 1
        found = is_bit_set([stored.kind, 4, len(stored.data), stored.all_set], b"----" + stored.data, position)
        assert found == is_set, (stored.kind, position)


CRITERIA: list[tuple[Criterion, Any]] = [
    (one_of("t", "a", ["x"]), [["x"]]),
    (one_of("t", "a", ["x"]), ["x"]),
    (one_of("t", ["x"], "a"), [["x"]]),
    (one_of("t", "a", []), [[]]),
    (one_of("t", 1, "null"), None),
    (one_of("t", 1, ["null"]), [[None]]),
    (one_of("t", 2, boolean()), 1),
    (one_of("t", timestamp(0), "null"), "garbage"),
    (eq("t", boolean()), 1),
    (eq("t", 1), True),
    (eq("t", None), [1, None]),
    (any_of(eq("t", None)), [None]),
    (eq("t", "null"), {"a": 1}),
    (eq("t", timestamp(1705276800)), "2024-01-15"),
    (eq("t", version("1.0")), "1.0.0"),
    (in_range("t", at_most=version("0.0")), "garbage"),
    (in_range("t", at_least=version("1.2.3"), below=version("1.2.1000")), "1.2.4"),
    (in_range("t", above="a"), None),
    (in_range("t", above=0, at_most="z"), 5),
    (in_range("t", above=float("-inf")), "nan"),
    (in_range("t", at_most=float("inf")), "Infinity"),
    (eq("t", 1), "\u0131nf"),
    (eq("t", 1), "1\n"),
    (in_range("t", at_least=timestamp(0)), "2024-01-15\n"),
    (in_range("t", at_least=timestamp(0)), "+" + "0" * 5000 + "2024-01-15"),
    (in_range("t", at_least=timestamp(0)), "+" + "9" * 5000 + "-01-15"),
    (in_range("t", at_least=timestamp(0)), "2024-01-15T10:20:30." + "9" * 5000 + "Z"),
    (in_range("t", at_least=timestamp(0)), "-262143-01-01"),
    (in_range("t", at_most=timestamp(0)), "-262143-01-01"),
    (in_range("t", at_least=timestamp(0)), "+262142-12-31T23:59:60"),
    (in_range("t", at_least=timestamp(0)), "2023-02-29"),
    (in_range("t", at_least=timestamp(0)), "+2000000-02-29"),
    (all_of(starts_with("t", "")), [None]),
    (any_of(contains("t", "😀")), ["a😀b", 5]),
    (all_of(eq("t")), []),
    (any_of(eq("t")), [1]),
]


@pytest.mark.parametrize(("criterion", "value"), CRITERIA)
def test_odd_values(criterion: Criterion, value: Any) -> None:
    """Where lists, kinds and spellings meet oddly, the official resolver is followed."""
    built = state(
        flag("a", rule(segment="in")),
        flag("b", rule(segment="out")),
        flag("c", rule(segment="either")),
        segments=[
            segment("in", criterion),
            segment("out", criteria={"c": criterion}, expression=not_("c")),
            segment("either", criteria={"c": criterion, "": eq("gone", None)}, expression=or_(not_("c"), "")),
        ],
    )
    compare_evaluated_case(payload(built), [request({"t": value})], Tally())


def test_refused_contexts_are_those_that_the_worker_refuses(test_worker: TestWorker) -> None:
    """A context is refused by both or by neither."""
    deep: dict[str, Any] = {}
    for _ in range(124):
        deep = {"x": deep}
    texts = [
        '{"n": 1e400}',
        '{"n": ' + "9" * 400 + "}",
        '{"n": [-0, 1e308]}',
        '{"n": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"n": ["\\ud83d\\ude00"]}',
        '{"n": NaN}',
        "[]",
        "5",
        "",
        json.dumps({"x": deep}),
        json.dumps({"x": {"x": deep}}),
        json.dumps({"x": [[deep]]}),
        "[" * 100_000,
    ]
    built = payload(state(flag("a", rule())))
    plan = compile_plan(decode_state(built), etag='"e"')
    bodies = [f'{{"clientSecret": "{SECRET}", "evaluationContext": {text}}}' for text in texts]
    batch = test_worker.run(plan, [{"path": "/v1/flags:resolve", "body": body} for body in bodies])
    for text, answer in zip(texts, batch.answers, strict=True):
        try:
            read_context(text)
        except DecodeError:
            assert answer.status == 400, text
        else:
            assert answer.status == 200, text
