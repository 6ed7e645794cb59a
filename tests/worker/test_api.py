"""What a caller of the Worker sees: answers, errors, CORS."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import (
    SECRET,
    assignment,
    client,
    client_default,
    credential,
    fallthrough,
    flag,
    payload,
    rule,
    schema,
    state,
    variant,
)
from segments import list_of, one_of, segment
from workerd import TestWorker

from sync_job.compile import compile_plan
from sync_job.decode import decode_state

PAYLOAD = payload(
    state(
        flag(
            "a",
            rule(assignments=[assignment("on")], selector="visitor_id"),
            variants=[variant("on", {"size": 5.0, "name": "é😀"})],
            schema=schema({"size": int, "name": str, "extra": bool}),
        ),
        flag(
            "b",
            rule("through", assignments=[fallthrough((0, 100))]),
            rule("last", assignments=[client_default((0, 100))]),
        ),
        flag("c", rule(environments=["prod"])),
    )
)


def resolve(worker: TestWorker, body: Any, **env: Any) -> Any:
    """The answer to one resolve request."""
    return worker.resolve(PAYLOAD, [body], env=env).answers[0]


def request(**fields: Any) -> dict[str, Any]:
    return {
        "clientSecret": SECRET,
        "evaluationContext": {"visitor_id": "v", "targeting_key": "t"},
        "apply": True,
    } | fields


def test_value_keeps_upstreams_number_text(test_worker: TestWorker) -> None:
    """A number of a variant is printed as a double, missing fields are null, text is unharmed."""
    answer = resolve(test_worker, request(flags=["flags/a"]))
    assert '"size":5.0' in answer.text
    assert answer.json["resolvedFlags"][0]["value"] == {"extra": None, "name": "é😀", "size": 5.0}


def test_client_default_has_empty_value_and_schema(test_worker: TestWorker) -> None:
    """A client default is a match without a variant, with an empty value and an empty schema."""
    [resolved] = resolve(test_worker, request(flags=["flags/b"])).json["resolvedFlags"]
    assert resolved == {
        "flag": "flags/b",
        "value": {},
        "flagSchema": {},
        "reason": "RESOLVE_REASON_MATCH",
        "shouldApply": True,
        "assignmentOrigin": "flags/b/rules/last",
    }


def test_keys_are_always_there(test_worker: TestWorker) -> None:
    """`resolvedFlags` and `resolveToken` are present even when there is nothing to say."""
    answer = resolve(test_worker, request(flags=["flags/none"])).json
    assert answer["resolvedFlags"] == []
    assert answer["resolveToken"] == ""
    assert len(answer["resolveId"]) == 32


def test_unknown_secret_reveals_nothing(test_worker: TestWorker) -> None:
    """A secret that no client has is a 401 in JSON, without a trace of the right ones."""
    answer = resolve(test_worker, request(clientSecret="guess"))
    assert answer.status == 401
    assert answer.json["error"]["code"] == "unknown_client_secret"
    assert SECRET[:3] not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "null",
        '"x"',
        "{",
        '{"flags":null}',
        '{"flags":"a"}',
        '{"flags":[1]}',
        '{"clientSecret":null}',
        '{"apply":null}',
        '{"apply":"true"}',
        '{"evaluationContext":[]}',
        '{"evaluationContext":"x"}',
        '{"sdk":"x"}',
        '{"sdk":{"version":null}}',
        '{"clientSecret":"a","client_secret":"a"}',
        '{"evaluationContext":{},"evaluation_context":{}}',
        '{"evaluationContext":{"a":1e400}}',
        '{"evaluationContext":{"a":"\\ud800"}}',
        '{"sdk":{"id":"X","customId":"y"}}',
        '{"evaluationContext":' + '{"a":' * 130 + "1" + "}" * 130 + "}",
    ],
)
def test_unreadable_requests_are_400(test_worker: TestWorker, body: str) -> None:
    """What the JSON mapping refuses is refused, in JSON, with a stable code."""
    plan = compile_plan(decode_state(PAYLOAD), etag='"e"')
    [answer] = test_worker.run(plan, [{"path": "/v1/flags:resolve", "body": body}]).answers
    assert answer.status == 400
    assert answer.json["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    "fields",
    [
        {"evaluation_context": {"visitor_id": "v"}, "evaluationContext": None},
        {"sdk": None},
        {"sdk": {"id": "SDK_ID_FROM_THE_FUTURE", "version": "9"}},
        {"sdk": {"customId": "mine"}},
        {"sdk": {"id": 13}},
        {"unknown": {"nested": [1]}},
    ],
)
def test_readable_requests_are_answered(test_worker: TestWorker, fields: dict[str, Any]) -> None:
    """Null messages count as absent, unknown fields and unknown SDK ids are ignored."""
    body = request(**fields)
    if body["evaluationContext"] is None:
        del body["evaluationContext"]
    assert resolve(test_worker, body).status == 200


def test_http_json_vectors(test_worker: TestWorker, reference_vectors: dict[str, list[dict[str, Any]]]) -> None:
    """Request bodies are accepted and refused as upstream does, but for what JSON.parse cannot tell apart."""
    plan = compile_plan(decode_state(PAYLOAD), etag='"e"')
    vectors = [vector for vector in reference_vectors["http_json"] if vector["endpoint"] == "flags:resolve"]
    batch = test_worker.run(plan, [{"path": "/v1/flags:resolve", "body": vector["body"]} for vector in vectors])
    differing = [
        vector["error"] or vector["body"]
        for vector, answer in zip(vectors, batch.answers, strict=True)
        if (answer.status != 400) != vector["accepted"]
    ]
    known = (
        "duplicate field",
        "out of range integral",
        "unknown variant",
        "invalid value",
        "expected value at line 1 column 1",
    )
    assert all(str(reason).startswith(known) for reason in differing), differing


def test_environments_hide_rules(test_worker: TestWorker) -> None:
    """A rule that names environments holds for credentials of one of them only."""
    built = payload(
        state(
            flag("c", rule(environments=["prod"])),
            clients=[client()],
            credentials=[credential("k", secret="plain"), credential("p", secret="prod", environments=["prod"])],
        )
    )
    bodies = [request(clientSecret="plain"), request(clientSecret="prod")]
    reasons = [answer.json["resolvedFlags"][0]["reason"] for answer in test_worker.resolve(built, bodies).answers]
    assert reasons == ["RESOLVE_REASON_NO_SEGMENT_MATCH", "RESOLVE_REASON_MATCH"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/flags:resolve", 405, "method_not_allowed"),
        ("POST", "/v1/state:etag", 405, "method_not_allowed"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/flags:resolve/", 404, "not_found"),
    ],
)
def test_wrong_routes(test_worker: TestWorker, method: str, path: str, status: int, code: str) -> None:
    """Wrong paths and methods are told in JSON, with the code that belongs to the status."""
    plan = compile_plan(decode_state(PAYLOAD), etag='"e"')
    [answer] = test_worker.run(plan, [{"path": path, "method": method}]).answers
    assert (answer.status, answer.json["error"]["code"]) == (status, code)


def test_state_etag_and_health(test_worker: TestWorker) -> None:
    """The live plan's entity tag is told as the server sent it; a missing queue degrades and is named."""
    plan = compile_plan(decode_state(PAYLOAD), etag='W/"x"')
    batch = test_worker.run(
        plan,
        [{"path": "/v1/state:etag", "method": "GET"}, {"path": "/v1/health", "method": "GET"}],
        env={"flag_logs_queue": None, "DEPLOYER_VERSION": "9.9"},
    )
    assert batch.answers[0].json == {"etag": 'W/"x"', "version": "9.9"}
    health = batch.answers[1].json
    assert (health["status"], health["flag_logs_queue"], health["flag_count"]) == ("degraded", "missing", 3)


def test_body_size_is_bounded(test_worker: TestWorker) -> None:
    """A body above a mebibyte is a 413 before it is parsed."""
    plan = compile_plan(decode_state(PAYLOAD), etag='"e"')
    body = json.dumps({"evaluationContext": {"a": "x" * 1_100_000}})
    [answer] = test_worker.run(plan, [{"path": "/v1/flags:resolve", "body": body}]).answers
    assert answer.status == 413


@pytest.mark.parametrize(("item", "matches"), [("x", True), ("y", False)])
def test_a_list_in_a_set_of_texts(test_worker: TestWorker, item: str, matches: bool) -> None:  # noqa: FBT001
    """A list operand is compared with lists, among texts too."""
    targeted = segment("t", one_of("tags", "a", list_of("x")))
    built = payload(state(flag("a", rule(segment="t")), segments=[targeted]))
    body = {"clientSecret": SECRET, "evaluationContext": {"targeting_key": "u", "tags": [[item]]}, "apply": True}
    [resolved] = test_worker.resolve(built, [body]).answers[0].json["resolvedFlags"]
    assert resolved.get("shouldApply", False) is matches
