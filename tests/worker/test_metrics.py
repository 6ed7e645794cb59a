"""`GET /metrics`: authorised, upstream's names, and every isolate's counts in the sum."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import SECRET, flag, payload, rule, state
from segments import eq, segment
from workerd import Answer, TestWorker

from sync_job.compile import compile_plan
from sync_job.decode import decode_state

BUILT = payload(
    state(flag("a", rule()), flag("b", rule(segment="nobody")), segments=[segment("nobody", eq("country", "XX"))])
)
PLAN = compile_plan(decode_state(BUILT), etag='"e"')
RESOLVE = {
    "path": "/v1/flags:resolve",
    "body": json.dumps({"clientSecret": SECRET, "evaluationContext": {"targeting_key": "u"}, "apply": True}),
}
SNAPSHOT = {"sum": 3000, "count": 3, "buckets": {"54": 2, "56": 1}, "reasons": {"MATCH": 3, "ERROR": 1}}


def scrape(
    worker: TestWorker, *, records: dict[str, str] | None, secret: str = SECRET, before: tuple[Any, ...] = ()
) -> Answer:
    """The answer of /metrics after some requests; without `records` no namespace is bound."""
    request = {"path": "/metrics", "method": "GET", "headers": {"authorization": f"ClientSecret {secret}"}}
    kv = None if records is None else {"records": records, "binding": "CONFIDENCE_METRICS_KV"}
    return worker.run(PLAN, [*before, request], env={"CONFIDENCE_CLIENT_SECRET": SECRET}, kv=kv).answers[-1]


def test_isolates_are_added_up(test_worker: TestWorker) -> None:
    """Every snapshot counts, once; buckets are cumulative and reach from the first to the last that was used."""
    text = scrape(test_worker, records={f"metrics:isolate-{number}": json.dumps(SNAPSHOT) for number in range(2)}).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line.split()[-1] for line in lines] == ["4", "4", "6", "6", "6000", "6", "6", "2"]
    assert 'confidence_resolves_total{resolver_id="cf-resolver",reason="RESOLVE_REASON_MATCH"} 6' in lines
    assert lines[3].startswith('confidence_resolve_latency_microseconds_bucket{resolver_id="cf-resolver",le="+Inf"}')


def test_a_resolve_is_stored_under_the_isolates_own_key(test_worker: TestWorker) -> None:
    """A resolve counts its flags by reason; other isolates' snapshots are not touched."""
    kv = {"records": {"metrics:other": json.dumps(SNAPSHOT)}, "binding": "CONFIDENCE_METRICS_KV"}
    records = test_worker.run(PLAN, [RESOLVE], env={}, kv=kv).records
    assert records.pop("metrics:other") == json.dumps(SNAPSHOT)
    [stored] = records.values()
    assert json.loads(stored)["reasons"] == {"MATCH": 1, "NO_SEGMENT_MATCH": 1}


def test_broken_snapshots_are_left_out(test_worker: TestWorker) -> None:
    """A value that is no snapshot costs its own numbers alone."""
    answer = scrape(
        test_worker,
        records={"metrics:a": "{", "metrics:c": "{}", "metrics:d": "null", "metrics:b": json.dumps(SNAPSHOT)},
    )
    assert 'reason="RESOLVE_REASON_ERROR"} 1' in answer.text


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "x", SECRET[:-1]])
def test_metrics_want_the_client_secret(test_worker: TestWorker, secret: str) -> None:
    """Any other secret is a 401."""
    assert scrape(test_worker, records={}, secret=secret).status == 401


def test_without_a_namespace_there_is_nothing(test_worker: TestWorker) -> None:
    """No namespace bound: an empty answer, not an error."""
    assert scrape(test_worker, records=None, before=(RESOLVE,)) == Answer(200, "")


def test_buckets_are_upstreams(test_worker: TestWorker, reference_vectors: dict[str, list[dict[str, Any]]]) -> None:
    """Bucket numbers and their printed limits are those of the official build."""
    latencies = reference_vectors["latency_bucket"]
    assert test_worker.call([("latencyBucket", [vector["micros"]]) for vector in latencies]) == [
        vector["index"] for vector in latencies
    ]
    limits = reference_vectors["prometheus_le"]
    assert test_worker.call([("bucketLimit", [vector["index"]]) for vector in limits]) == [
        vector["le"] for vector in limits
    ]
