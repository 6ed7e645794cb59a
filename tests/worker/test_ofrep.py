"""OFREP as the protocol has it, and as its clients read it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from builders import (
    SECRET,
    assignment,
    client_default,
    compiled_plan,
    fallthrough,
    flag,
    materialization,
    rule,
    schema,
    state,
    variant,
)
from workerd import Answer, Batch, TestWorker

VALUE = {"size": 5.0, "ratio": 5.0, "name": "é", "on": True, "nested": {"depth": 2.0}, "gone": None}
PLAN = compiled_plan(
    state(
        flag(
            "a",
            rule(assignments=[assignment("on", (0, 100))], selector="visitor_id"),
            variants=[variant("on", VALUE)],
            schema=schema(
                {"size": int, "ratio": float, "name": str, "on": bool, "nested": {"depth": int}, "gone": str}
            ),
        ),
        flag("b", rule("through", assignments=[fallthrough((0, 50)), client_default((50, 100))])),
        flag("none", rule(environments=["prod"]), schema=schema({"text": str})),
    ),
    etag='W/"3f2a"',
)
BULK = "/ofrep/v1/evaluate/flags"
CONTEXT = {"targetingKey": "t", "visitor_id": "v"}
LONG_ENOUGH_S = 5


def send(worker: TestWorker, *requests: dict[str, Any], **env: Any) -> Batch:
    """Requests to OFREP: `key` (absent: bulk), `context` or `body`, `headers`."""
    made = []
    for request in requests:
        key = request.get("key")
        body = request.get("body", json.dumps({"context": request.get("context", CONTEXT)}))
        headers = {"authorization": f"Bearer {SECRET}"} | request.get("headers", {})
        path = BULK if key is None else f"{BULK}/{key}"
        made.append({"path": path, "body": body, "headers": headers, "method": request.get("method", "POST")})
    return worker.run(PLAN, made, env=env)


def answer(worker: TestWorker, **request: Any) -> Answer:
    return send(worker, request).answers[0]


@pytest.mark.parametrize("key", ["a", "flags/a", "flags%2Fa"])
def test_flag_by_any_of_its_names(test_worker: TestWorker, key: str) -> None:
    """With and without its collection, percent-encoded or not; the key comes back as it was asked for."""
    found = answer(test_worker, key=key)
    assert (found.status, found.json["key"]) == (200, key.replace("%2F", "/"))
    assert found.json["reason"] == "TARGETING_MATCH"
    assert found.json["variant"] == "flags/a/variants/on"
    assert found.headers["content-type"] == "application/json"
    assert '"ratio":5.0,"size":5}' in found.text


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("size", "5"),
        ("ratio", "5.0"),
        ("name", '"é"'),
        ("on", "true"),
        ("nested", '{"depth":2}'),
        ("nested.depth", "2"),
    ],
)
def test_field_of_a_struct(test_worker: TestWorker, field: str, text: str) -> None:
    """Typed clients get an int as 5 and a double as 5.0."""
    found = answer(test_worker, key=f"a.{field}")
    assert found.status == 200
    assert found.text.endswith(f'"value":{text}}}')


def test_null_field_is_the_callers_default(test_worker: TestWorker) -> None:
    """A field that is null has no value; one that does not exist is not found."""
    found = answer(test_worker, key="a.gone").json
    assert ("value" in found, found["reason"], found["variant"]) == (False, "DEFAULT", "")
    missing = answer(test_worker, key="a.missing")
    assert (missing.status, missing.json["errorCode"]) == (404, "FLAG_NOT_FOUND")


def test_no_match_is_the_callers_default(test_worker: TestWorker) -> None:
    """No value, and a variant all the same, for clients read it unguarded."""
    found = answer(test_worker, key="none")
    assert (found.status, found.json) == (200, {"key": "none", "reason": "DEFAULT", "variant": ""})


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"key": "nothing"}, 404, "FLAG_NOT_FOUND"),
        ({"key": "a."}, 404, "FLAG_NOT_FOUND"),
        ({"key": "a", "body": "{"}, 400, "PARSE_ERROR"),
        ({"key": "a", "body": '{"context":[]}'}, 400, "INVALID_CONTEXT"),
        ({"key": "b", "context": {"targetingKey": 1.5}}, 400, "INVALID_CONTEXT"),
        ({"key": "b", "context": {"targetingKey": "x" * 101}}, 400, "INVALID_CONTEXT"),
        ({"key": "a", "context": {"visitor_id": 1.5}}, 400, "INVALID_CONTEXT"),
        ({"key": "a", "context": {"a." * 100_000: 1}}, 400, "INVALID_CONTEXT"),
        ({"key": "a", "headers": {"authorization": "Bearer wrong"}}, 401, "GENERAL"),
        ({"key": "a", "headers": {"authorization": ""}}, 401, "GENERAL"),
        ({"key": "a", "body": '{"context":{"a":"\\ud800"}}'}, 400, "INVALID_CONTEXT"),
    ],
)
def test_failures_have_key_code_and_details(
    test_worker: TestWorker, request_: dict[str, Any], status: int, code: str
) -> None:
    """Clients take a failure for one only with all three."""
    found = answer(test_worker, **request_)
    assert (found.status, found.json["key"], found.json["errorCode"]) == (status, request_["key"], code)
    assert found.json["errorDetails"]


@pytest.mark.parametrize("body", ['{"context":{"a":' + "[" * 9_000 + "]" * 9_000 + "}}", '{"context":{"a":1e999}}'])
def test_bulk_of_a_bad_context(test_worker: TestWorker, body: str) -> None:
    """It is refused, whatever the caller has already."""
    found = answer(test_worker, body=body, headers={"if-none-match": "*"})
    assert (found.status, found.json["errorCode"]) == (400, "INVALID_CONTEXT")


def test_many_dotted_keys(test_worker: TestWorker) -> None:
    """They cost by their number, not by its square: a body of the size that is taken is read in no time."""
    began_s = time.monotonic()
    assert answer(test_worker, key="b", context={f"a.k{i}": 1 for i in range(50_000)}).status == 200
    assert time.monotonic() - began_s < LONG_ENOUGH_S


def test_api_key(test_worker: TestWorker) -> None:
    """The secret may come as X-API-Key too."""
    assert answer(test_worker, key="a", headers={"authorization": "", "x-api-key": SECRET}).status == 200


def test_bulk_has_flags_and_their_fields(test_worker: TestWorker) -> None:
    """Each flag once, and each field below it, with or without a value, so that typed web clients find theirs."""
    found = answer(test_worker)
    items = {item["key"]: item for item in found.json["flags"]}
    assert {"a", "a.size", "a.nested.depth", "b", "none"} <= items.keys()
    assert items["a.on"]["value"] is True
    assert items["a.gone"] == {"key": "a.gone", "reason": "DEFAULT", "variant": ""}
    assert "value" not in items["none.text"]


def test_bulk_of_a_flag_that_cannot_be_evaluated(test_worker: TestWorker) -> None:
    """Its fields fail with it: else typed web clients would take them for misspelt."""
    found = answer(test_worker, context={"visitor_id": 1.5})
    codes = {item["key"]: item.get("errorCode") for item in found.json["flags"]}
    assert codes["a"] == codes["a.on"] == codes["a.nested.depth"] == "INVALID_CONTEXT"
    assert codes["b"] is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"context": {"x": {"a": 1}}}, {"context": {"x": [["a", 1]]}}),
        ({"context": {"x": [1, 2]}}, {"context": {"x": [2, 1]}}),
        ({"context": {"x": 1}}, {"context": {"x": "1"}}),
    ],
)
def test_bulk_etag_tells_contexts_apart(test_worker: TestWorker, one: dict[str, Any], other: dict[str, Any]) -> None:
    """What a rule can tell apart has another entity tag."""
    etags = [found.headers["etag"] for found in send(test_worker, one, other).answers]
    assert etags[0] != etags[1]


def test_bulk_etag_covers_overrides(test_worker: TestWorker) -> None:
    """A flag that was switched off is no 304, though the state is the same."""
    etag = answer(test_worker).headers["etag"]
    known: dict[str, Any] = {"headers": {"if-none-match": etag}}
    assert send(test_worker, known, FLAG_OVERRIDES='[{"flag":"flags/a"}]').answers[0].status == 200
    assert send(test_worker, known).answers[0].status == 304


def test_bulk_that_may_be_another_soon_has_no_etag(test_worker: TestWorker) -> None:
    """While KV is down sticky flags fail: a client that had an entity tag for that would keep it for good."""
    sticky = rule(assignments=[assignment("on", (0, 100))], materialization=materialization("m", "m"))
    plan = compiled_plan(state(flag("a", sticky)), etag='"1"')
    body = json.dumps({"context": CONTEXT})
    requests = [{"path": BULK, "body": body, "headers": {"authorization": f"Bearer {SECRET}"}}]
    [down] = test_worker.run(plan, requests, kv={"records": {}, "failing": True}).answers
    assert (down.json["flags"][0]["errorCode"], "etag" in down.headers) == ("GENERAL", False)
    [up] = test_worker.run(plan, requests, kv={"records": {}}).answers
    assert (up.json["flags"][0]["variant"], "etag" in up.headers) == ("flags/a/variants/on", True)


def test_bulk_etag_covers_state_and_context(test_worker: TestWorker) -> None:
    """The same state and context are a 304 without a body and without an exposure; key order does not matter."""
    etag = answer(test_worker).headers["etag"]
    assert etag.startswith('"3f2a.')
    again = {"context": {"visitor_id": "v", "targetingKey": "t"}, "headers": {"if-none-match": f'"x", W/{etag}'}}
    batch = send(test_worker, again, {"context": {"visitor_id": "w"}, "headers": {"if-none-match": etag}})
    assert [(each.status, each.text == "") for each in batch.answers] == [(304, True), (200, False)]
    assert batch.answers[0].headers["etag"] == etag
    assert "access-control-allow-origin" in batch.answers[0].headers
    assert sum(len(message["resolves"]["id"]) for message in batch.messages) == 1


def test_evaluation_is_an_exposure_unless_told_otherwise(test_worker: TestWorker) -> None:
    """The log says that it came by OFREP; a client whose evaluations are none logs counts alone."""
    [message] = send(test_worker, {"key": "a"}).messages
    assert (message["origins"][0]["source"], len(message["exposures"]["unit"])) == ("ofrep", 1)
    [message] = send(test_worker, {"key": "a"}, OFREP_CLIENTS={"clients/c": {"exposes": False}}).messages
    assert message["exposures"]["unit"] == []
    assert message["counts"]["count"] == [1]


def test_a_backends_secret_is_refused_from_browsers(test_worker: TestWorker) -> None:
    """A request with an Origin comes from a page, where everybody could read the secret."""
    env = {"OFREP_CLIENTS": {"clients/c": {"backend": True}}}
    batch = send(test_worker, {"key": "a", "headers": {"origin": "https://shop.example"}}, {"key": "a"}, **env)
    assert [each.status for each in batch.answers] == [403, 200]


def test_context_is_mapped(test_worker: TestWorker) -> None:
    """Dotted keys become structs, `targetingKey` the targeting key."""
    context = {"targetingKey": "t", "visitor_id": "v", "user.country": "SE", "user.age": 3, "visitor_id.x": 1}
    [message] = send(test_worker, {"key": "b", "context": context}).messages
    assert message["schemas"][0]["schema"] == {
        "targeting_key": "STRING_KIND",
        "visitor_id": "STRING_KIND",
        "user.country": "STRING_KIND",
        "user.age": "NUMBER_KIND",
    }
    assert message["units"] == ["t"]


def test_preflight_names_the_headers(test_worker: TestWorker) -> None:
    """A wildcard does not cover Authorization, and pages may read ETag and Retry-After."""
    found = answer(test_worker, key="a", method="OPTIONS", body=None)
    assert found.status == 200
    assert "authorization" in found.headers["access-control-allow-headers"]
    assert "etag" in found.headers["access-control-expose-headers"]
    assert answer(test_worker, key="a", method="PUT").status == 405
