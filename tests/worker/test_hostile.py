"""Hostile requests to the two POST endpoints: an answer below 500 with CORS and a stable code, whatever comes."""

from __future__ import annotations

import base64
import json
from typing import Any

from builders import SECRET, flag, payload, rule, state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from segments import eq, in_range, segment, starts_with, timestamp, version
from workerd import TestWorker

from sync_job.compile import compile_plan
from sync_job.decode import decode_state

BUILT = payload(
    state(
        flag("a", rule(segment="s"), rule("r2", segment="t")),
        segments=[
            segment("s", eq("n", 5), starts_with("text", "a")),
            segment(
                "t", in_range("at", at_least=timestamp("2024-01-01T00:00:00Z")), in_range("v", at_least=version("1.2"))
            ),
        ],
    )
)
PLAN = compile_plan(decode_state(BUILT), etag='"e"')
ENV = {"RESOLVE_TOKEN_ENCRYPTION_KEY": base64.b64encode(bytes(16)).decode(), "FORCE_APPLY": "false"}
CODES = {
    "invalid_request",
    "unknown_client_secret",
    "invalid_token",
    "flag_not_in_token",
    "unsupported_media_type",
    "body_too_large",
}

leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
names = st.sampled_from(
    [
        "flags",
        "evaluationContext",
        "evaluation_context",
        "clientSecret",
        "client_secret",
        "apply",
        "sdk",
        "resolveToken",
        "resolve_token",
        "sendTime",
        "send_time",
        "__proto__",
        "constructor",
    ]
)
likely = st.sampled_from(
    [
        SECRET,
        True,
        [],
        ["flags/a"],
        {},
        "",
        "2024-01-01T00:00:00Z",
        "AAAA",
        {"n": "five"},
        {"n": [5, None]},
        {"targeting_key": "u"},
        {"at": "2024-01-15T10:20:30", "v": "1.x"},
        {"id": "SDK_ID_X", "version": "1"},
        {"customId": None},
        [{"flag": "flags/a"}],
        [{"flag": "flags/a", "applyTime": "x"}],
        base64.b64encode(bytes(48)).decode(),
        base64.b64encode(b"\x01" * 60).decode(),
    ]
)
objects = st.dictionaries(names, likely | values, max_size=8)
bodies = objects.map(json.dumps) | values.map(json.dumps) | st.text() | objects.map(lambda body: json.dumps(body)[:-1])


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=st.lists(st.tuples(st.sampled_from(["resolve", "apply"]), bodies), min_size=5, max_size=20))
def test_nothing_breaks_the_worker(batch: list[tuple[str, str]], test_worker: TestWorker) -> None:
    """No 5xx, no answer that is not JSON, no code that callers cannot know."""
    requests: list[dict[str, Any]] = [{"path": f"/v1/flags:{what}", "body": body} for what, body in batch]
    for request, answer in zip(requests, test_worker.run(PLAN, requests, env=ENV).answers, strict=True):
        assert answer.status < 500, (request, answer)
        assert answer.status == 200 or answer.json["error"]["code"] in CODES, (request, answer)
