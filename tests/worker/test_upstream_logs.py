"""LOG_FORMAT=upstream: the official Worker's messages, held against what the official resolver logs itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
import shop
from builders import SECRET, flag, payload, rule, schema, state, variant
from google.protobuf import json_format
from oracle import Oracle
from workerd import TestWorker

from flagedge.wire import logs_pb2


def written(worker: TestWorker, built: bytes, *bodies: dict[str, Any]) -> list[logs_pb2.WriteFlagLogsRequest]:
    """The messages of a batch; a JSON string each, which the queue carries as JSON."""
    messages = worker.resolve(built, bodies, env={"LOG_FORMAT": "upstream", "DEPLOYER_VERSION": "9.9"}).messages
    return [json_format.ParseDict(message, logs_pb2.WriteFlagLogsRequest()) for message in messages]


@pytest.mark.parametrize("context", list(shop.visitors(20, seed=3)))
def test_same_facts_as_the_official_resolver(test_worker: TestWorker, context: dict[str, Any]) -> None:
    """Assignments, fall-throughs, context schema and counts are the official resolver's."""
    body = {"flags": [], "clientSecret": shop.WEB_SECRET, "evaluationContext": context, "apply": True}
    oracle = Oracle(shop.shop_payload())
    oracle.flush_logs()
    oracle.resolve(body)
    official = oracle.flush_logs()
    [ours] = written(test_worker, shop.shop_payload(), body)
    assert _assignments(ours) == _assignments(official)
    assert [info.schema[0] for info in ours.client_resolve_info] == [
        info.schema[0] for info in official.client_resolve_info
    ]
    assert _counts(ours) == _counts(official)


def _assignments(logs: logs_pb2.WriteFlagLogsRequest) -> list[dict[str, Any]]:
    flags = [json_format.MessageToDict(flag) for entry in logs.flag_assigned for flag in entry.flags]
    return sorted(({**flag, "applyTime": None} for flag in flags), key=lambda flag: str(flag["flag"]))


def _counts(logs: logs_pb2.WriteFlagLogsRequest) -> dict[str, Any]:
    return {
        info.flag: sorted(variant.variant for variant in info.variant_resolve_info) for info in logs.flag_resolve_info
    }


def test_telemetry_is_there(test_worker: TestWorker) -> None:
    """SDK, version, latency and reasons stand in every message of a resolve."""
    body = {"clientSecret": SECRET, "evaluationContext": {"targeting_key": "u"}, "apply": True}
    [message] = written(test_worker, payload(state(flag("a", rule()))), body)
    telemetry = message.telemetry_data
    assert (telemetry.sdk.id, telemetry.sdk.version, telemetry.resolver_version) == (25, "9.9", "9.9")
    assert [(rate.count, rate.reason) for rate in telemetry.resolve_rate] == [(1, 1)]
    assert telemetry.resolve_latency.count == 1


@pytest.mark.parametrize("log_format", ["flagedge", "upstream"])
def test_no_message_exceeds_the_queue(test_worker: TestWorker, log_format: str) -> None:
    """A thousand flags with long names are split over messages, each below the queue's limit, none lost."""
    flags = [
        flag(f"{number:03d}-{'x' * 200}", rule(), variants=[variant("on", {"a": "b"})], schema=schema({"a": str}))
        for number in range(1000)
    ]
    body = {"clientSecret": SECRET, "evaluationContext": {"targeting_key": "u"}, "apply": True}
    batch = test_worker.resolve(payload(state(*flags)), [body], env={"LOG_FORMAT": log_format})
    sizes = [len(json.dumps(json.dumps(message, separators=(",", ":")))) for message in batch.messages]
    assert max(sizes) < 150_000 if log_format == "flagedge" else max(sizes) <= 128_000
    assert max(len(json.dumps(message, separators=(",", ":"))) for message in batch.messages) <= 127_000
    if log_format == "flagedge":
        logged = [
            message["flags"][message["outcomes"]["flag"][outcome]]
            for message in batch.messages
            for outcome in message["exposures"]["outcome"]
        ]
    else:
        logged = [
            item["flag"]
            for message in batch.messages
            for entry in message.get("flagAssigned", [])
            for item in entry.get("flags", [])
        ]
    assert len(logged) == len(set(logged)) == 1000
