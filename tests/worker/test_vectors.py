"""The Worker's readings and hashes, held against vectors that the official builds made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from workerd import TestWorker

Vector = dict[str, Any]


def moment(vector: Vector) -> Any:
    return {"seconds": vector["seconds"], "nanos": vector["nanos"]} if vector["outcome"] == "ts" else None


def number(vector: Vector) -> Any:
    """An error stands as None; infinities and NaN as their JavaScript names."""
    return None if vector["result"] == "ERROR" else vector["result"]


CASES: dict[str, tuple[Callable[[Vector], tuple[str, list[Any]]], Callable[[Vector], Any]]] = {
    "murmur3_x64_128": (lambda v: ("words", [v["input"], ""]), lambda v: [v["low64_hex"], v["high64_hex"]]),
    "population_bucket": (
        lambda v: ("bucket", [v["salted"][: len(v["salted"]) - len(v["unit"])], v["unit"], v["buckets"]]),
        lambda v: v["bucket"],
    ),
    "variant_bucket": (
        lambda v: ("bucket", [v["key"][: len(v["key"]) - len(v["unit"])], v["unit"], v["bucket_count"]]),
        lambda v: v["bucket"],
    ),
    "number_to_string": (lambda v: ("numberText", [v["number"]]), lambda v: v["rust"]),
    "timestamp_string": (lambda v: ("parseTimestamp", [v["input"]]), moment),
    "timestamp_number": (lambda v: ("timestampOfNumber", [v["input"]]), moment),
}


@pytest.mark.parametrize("kind", CASES)
def test_vectors(kind: str, test_worker: TestWorker, reference_vectors: dict[str, list[Vector]]) -> None:
    """Every vector of the kind gives the official result."""
    call, expected = CASES[kind]
    vectors = reference_vectors[kind]
    results = test_worker.call([call(vector) for vector in vectors])
    wrong = [(vector, result) for vector, result in zip(vectors, results, strict=True) if result != expected(vector)]
    assert not wrong


def test_string_to_number(test_worker: TestWorker, reference_vectors: dict[str, list[Vector]]) -> None:
    """Text is read as a number as the official resolver reads it; what it refuses, we refuse."""
    vectors = reference_vectors["string_to_number"]
    results = test_worker.call([("parseNumber", [vector["input"]]) for vector in vectors])
    words = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}
    for vector, result in zip(vectors, results, strict=True):
        expected = None if vector["result"] == "ERROR" else vector["result"]
        assert words.get(result, result) == (expected.lower() if isinstance(expected, str) else expected), vector


def test_version_order(test_worker: TestWorker, reference_vectors: dict[str, list[Vector]]) -> None:
    """Versions compare by four numbers; what is no version is 0.0.0.0."""
    vectors = reference_vectors["semver_compare"]
    texts = sorted({vector[side] for vector in vectors for side in ("context", "rule")})
    parts = dict(zip(texts, test_worker.call([("parseVersion", [text]) for text in texts]), strict=True))
    for vector in vectors:
        context, rule = parts[vector["context"]], parts[vector["rule"]]
        assert (context < rule, context <= rule) == (vector["lt"], vector["le"]), vector


def test_text_order(test_worker: TestWorker, reference_vectors: dict[str, list[Vector]]) -> None:
    """Texts compare by code point, not by UTF-16 unit."""
    vectors = reference_vectors["string_lt"]
    results = test_worker.call([("compareText", [vector["context"], vector["rule"]]) for vector in vectors])
    assert [result < 0 for result in results] == [vector["lt"] for vector in vectors]


def test_context_schema(test_worker: TestWorker, reference_vectors: dict[str, list[Vector]]) -> None:
    """A context's schema is what Confidence collects; JSON null has no kind."""
    vectors = [vector for vector in reference_vectors["context_schema"] if "NullValue" not in vector["null_mapping"]]
    results = test_worker.call([("schema", [vector["context"]]) for vector in vectors])
    for vector, result in zip(vectors, results, strict=True):
        assert result == {"schema": vector["schema"], "semantic_types": vector["semantic_types"]}, vector


@pytest.mark.parametrize("unit", ["", "a", "é" * 50, "x" * 100, "日本語", "😀" * 25])
def test_prefix_and_unit_are_one_key(unit: str, test_worker: TestWorker) -> None:
    """However a key is cut into prefix and unit, it has the same hash: the prefix is digested ahead."""
    prefix = "segments-of-some-length-0123456789|"
    cuts = [0, 1, 15, 16, 17, 31, 32, 33, len(prefix)]
    words = test_worker.call(
        [("words", [prefix[:cut], prefix[cut:] + unit]) for cut in cuts if len((prefix[cut:] + unit).encode()) <= 100]
    )
    whole = test_worker.call([("words", [prefix + unit, ""])])[0]
    assert all(word == whole for word in words)
