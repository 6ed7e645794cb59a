"""Sticky assignments: upstream's keys, its answers, and nobody re-randomised when KV is down."""

from __future__ import annotations

import random
from typing import Any

import pytest
from builders import SECRET, fallthrough, flag, materialization, payload, rule, split, state, variant
from differential import Tally, compare_sticky_case, kv_key
from generator import random_case
from segments import eq, in_materialized, segment
from workerd import Batch, TestWorker

STICKY = payload(
    state(
        flag(
            "a",
            rule(assignments=split(x=50, y=50), materialization=materialization("m", "m")),
            variants=[variant("x"), variant("y")],
        ),
        flag("plain", rule()),
    )
)


def resolve(
    worker: TestWorker, built: bytes, records: dict[str, str], *, failing: bool = False, **context: Any
) -> Batch:
    body = {"clientSecret": SECRET, "evaluationContext": {"targeting_key": "u:1"} | context, "apply": True}
    return worker.resolve(built, [body], kv={"records": dict(records), "failing": failing})


def variants_of(batch: Batch) -> dict[str, str]:
    return {flag["flag"]: flag.get("variant", flag["reason"]) for flag in batch.answers[0].json["resolvedFlags"]}


def test_generated_states_with_records(test_worker: TestWorker) -> None:
    """Answers and written records are the official resolver's, whatever is recorded already."""
    tally = Tally()
    for seed in range(500):
        built, requests = random_case(random.Random(seed))
        compare_sticky_case(test_worker, built, requests, tally, random.Random(seed))
    assert tally.requests > 1_500


@pytest.mark.parametrize("kept", ["x", "y"])
def test_recorded_variant_is_kept(test_worker: TestWorker, kept: str) -> None:
    """A record decides, wherever the unit's bucket lies, and is not written again."""
    key = kv_key("u:1", "m", "flags/a/rules/r")
    batch = resolve(test_worker, STICKY, {key: f"flags/a/variants/{kept}"})
    assert variants_of(batch)["flags/a"] == f"flags/a/variants/{kept}"
    assert batch.records == {key: f"flags/a/variants/{kept}"}


def test_first_assignment_is_written_under_upstreams_key(test_worker: TestWorker) -> None:
    """Unit, materialization and rule stand escaped in the key; the value is the variant's name."""
    batch = resolve(test_worker, STICKY, {})
    assert batch.records == {"mat:u%3A1:m:flags/a/rules/r": variants_of(batch)["flags/a"]}


def test_failed_read_never_re_randomises(test_worker: TestWorker) -> None:
    """When KV cannot be read the sticky flag errs, the others answer, and nothing is written."""
    batch = resolve(test_worker, STICKY, {}, failing=True)
    assert variants_of(batch) == {"flags/a": "RESOLVE_REASON_ERROR", "flags/plain": "flags/plain/variants/on"}
    assert batch.records == {}


def test_long_keys_are_hashed(test_worker: TestWorker) -> None:
    """A key that KV would refuse is hashed; it is found again, by rule and by inclusion."""
    name = "m" * 600
    built = payload(
        state(
            flag("a", rule(materialization=materialization(name, name))),
            flag("b", rule(segment="in")),
            segments=[segment("in", in_materialized(name))],
        )
    )
    first = resolve(test_worker, built, {})
    [key] = first.records
    assert key.startswith("mat#")
    assert len(key) <= 512
    assert variants_of(first)["flags/b"] == "RESOLVE_REASON_NO_SEGMENT_MATCH"
    assert variants_of(resolve(test_worker, built, first.records))["flags/b"] == "flags/b/variants/on"


def test_a_question_that_only_an_answer_raises_is_asked_too(test_worker: TestWorker) -> None:
    """A rule that was hidden behind an error in the first pass is read in a second round, not assigned anew."""
    built = payload(
        state(
            flag(
                "a",
                rule("first", segment="odd"),
                rule("second", assignments=split(x=50, y=50), materialization=materialization("m", "m")),
                variants=[variant("x"), variant("y"), variant("on")],
            ),
            segments=[segment("odd", in_materialized("other"), eq("n", 5))],
        )
    )
    key = kv_key("u:1", "m", "flags/a/rules/second")
    for kept in ("x", "y"):
        batch = resolve(test_worker, built, {key: f"flags/a/variants/{kept}"}, n="five")
        assert variants_of(batch)["flags/a"] == f"flags/a/variants/{kept}"


def test_without_a_namespace_sticky_flags_say_so(test_worker: TestWorker) -> None:
    """No namespace bound: the reason names it, and other flags answer."""
    body = {"clientSecret": SECRET, "evaluationContext": {"targeting_key": "u"}, "apply": True}
    batch = test_worker.resolve(STICKY, [body])
    assert variants_of(batch)["flags/a"] == "RESOLVE_REASON_MATERIALIZATION_NOT_SUPPORTED"


def test_a_flag_that_errs_writes_nothing(test_worker: TestWorker) -> None:
    """What a rule on the way would have recorded is dropped when the flag ends in an error."""
    built = payload(
        state(
            flag(
                "a",
                rule("through", assignments=[fallthrough((0, 100))], materialization=materialization("m")),
                rule("broken", segment="odd"),
            ),
            segments=[segment("odd", eq("n", 5))],
        )
    )
    batch = resolve(test_worker, built, {}, n="five")
    assert variants_of(batch)["flags/a"] == "RESOLVE_REASON_ERROR"
    assert batch.records == {}


def test_sticky_writes_are_refused_before_a_missing_variant_is_noticed(test_worker: TestWorker) -> None:
    """As upstream: where nothing can be written, that is the reason, whatever variant would have been chosen."""
    built = payload(state(flag("a", rule(assignments=split(gone=100), materialization=materialization("m")))))
    body = {"clientSecret": SECRET, "evaluationContext": {"targeting_key": "u"}, "apply": True}
    batch = test_worker.resolve(built, [body])
    assert variants_of(batch)["flags/a"] == "RESOLVE_REASON_MATERIALIZATION_NOT_SUPPORTED"
    assert variants_of(resolve(test_worker, built, {}))["flags/a"] == "RESOLVE_REASON_ERROR"


@pytest.mark.parametrize("value", [None, {"size": float("nan")}])
def test_a_recorded_variant_that_cannot_be_given_is_an_error(
    test_worker: TestWorker, value: dict[str, float] | None
) -> None:
    """One that the flag lost, or whose value JSON cannot say: nobody is assigned anew, the record stays."""
    variants = [variant("y")] + ([variant("x", value)] if value else [])
    kept = materialization("m", "m")
    built = payload(state(flag("a", rule(assignments=split(x=50, y=50), materialization=kept), variants=variants)))
    records = {kv_key("u:1", "m", "flags/a/rules/r"): "flags/a/variants/x"}
    batch = resolve(test_worker, built, records)
    assert variants_of(batch)["flags/a"] == "RESOLVE_REASON_ERROR"
    assert batch.records == records
