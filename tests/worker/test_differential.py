"""Our Worker against the official resolver on generated states: thousands of cases a run, no difference allowed."""

from __future__ import annotations

from typing import Any

import pytest
from differential import Tally, compare_case, run_seeds
from hypothesis import HealthCheck, given, settings
from oracle import Oracle
from strategies import cases
from workerd import TestWorker

REQUESTS = 20_000


def test_generated_states(test_worker: TestWorker) -> None:
    """Flags, variants, values, reasons, shouldApply and origins are those of the official resolver."""
    tally = Tally()
    run_seeds(test_worker, range(REQUESTS // 16), tally)
    assert tally.requests >= REQUESTS
    assert {"MATCH", "NO_SEGMENT_MATCH", "TARGETING_KEY_ERROR", "ERROR"} <= tally.reasons.keys()
    assert tally.reasons["MATCH"] > tally.flags * 0.4


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(case=cases())
def test_shrinkable_states(case: tuple[bytes, list[dict[str, Any]]], test_worker: TestWorker) -> None:
    """The same under hypothesis, which shrinks what it finds and remembers it."""
    payload, requests = case
    compare_case(test_worker, payload, requests, Tally())


@pytest.mark.parametrize("visitors", [2_000])
def test_demo_account(test_worker: TestWorker, demo_payload: bytes, visitors: int) -> None:
    """On the real state of Confidence's demo account every visitor gets the official answer."""
    oracle = Oracle(demo_payload)
    units = ["tutorial_visitor", *(f"visitor-{number}" for number in range(visitors))]
    requests = [
        {"clientSecret": "mkjJruAATQWjeY7foFIWfVAcBWnci2YF", "evaluationContext": {"visitor_id": unit}, "apply": True}
        for unit in units
    ]
    batch = test_worker.resolve(demo_payload, requests)
    for request, answer in zip(requests, batch.answers, strict=True):
        ours = {flag["flag"]: flag for flag in answer.json["resolvedFlags"]}
        assert ours == oracle.resolve_flags(request)
