"""Flagship's evaluation route, beyond what its own providers ask of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import SECRET, assignment, compiled_plan, flag, rule, schema, state, variant
from segments import eq, segment
from workerd import Batch, TestWorker

PLAN = compiled_plan(
    state(
        flag(
            "a",
            rule(segment="of-age", assignments=[assignment("on")], selector="targeting_key"),
            variants=[variant("on", {"size": 5.0})],
            schema=schema({"size": int}),
        ),
        segments=[segment("of-age", eq("age", 18))],
    ),
    etag='"1"',
)
PATHS = ["/v1/evaluate", "/client/v4/accounts/any/flagship/apps/any/evaluate"]
OF_AGE = {"targetingKey": "t", "age": 18}


def send(worker: TestWorker, path: str, *, method: str = "GET", body: str | None = None, **env: Any) -> Batch:
    headers = {"authorization": f"Bearer {SECRET}", "origin": "https://shop.example"}
    return worker.run(PLAN, [{"path": path, "method": method, "body": body, "headers": headers}], env=env)


@pytest.mark.parametrize("path", PATHS)
def test_by_query_and_by_body(test_worker: TestWorker, path: str) -> None:
    """The same answer; in a query the attributes are texts, which rules read."""
    by_query = send(test_worker, f"{path}?flagKey=a.size&targetingKey=t&age=18")
    by_body = send(test_worker, path, method="POST", body=json.dumps({"flagKey": "a.size", "context": OF_AGE}))
    expected = '{"flagKey":"a.size","variant":"flags/a/variants/on","reason":"TARGETING_MATCH","value":5}'
    assert by_query.answers[0].text == by_body.answers[0].text == expected


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/evaluate?flagKey=nothing", None, 404),
        ("GET", "/v1/evaluate", None, 404),
        ("POST", "/v1/evaluate", "{", 400),
        ("POST", "/v1/evaluate", '{"flagKey":5}', 400),
        ("POST", "/v1/evaluate", '{"flagKey":"a","context":[]}', 400),
        ("PUT", "/v1/evaluate", "{}", 405),
    ],
)
def test_refusals(test_worker: TestWorker, method: str, path: str, body: str | None, status: int) -> None:
    """Their providers go by the status."""
    [answer] = send(test_worker, path, method=method, body=body).answers
    assert answer.status == status
    assert answer.json
    assert answer.headers.get("allow", "GET, POST, OPTIONS") == "GET, POST, OPTIONS"


@pytest.mark.parametrize(("settings", "exposed"), [({}, [0]), ({"exposes": False}, [])])
def test_exposures(test_worker: TestWorker, settings: dict[str, bool], exposed: list[int]) -> None:
    """An evaluation is one, unless the client's settings say otherwise."""
    env = {"OFREP_CLIENTS": {"clients/c": settings}}
    [message] = send(test_worker, "/v1/evaluate?flagKey=a&targetingKey=t&age=18", **env).messages
    assert message["exposures"]["unit"] == exposed


@pytest.mark.parametrize("path", [*(f"{path}?flagKey=a" for path in PATHS), "/ofrep/v1/evaluate/flags"])
def test_a_backends_secret_is_refused_from_browsers(test_worker: TestWorker, path: str) -> None:
    """On every path of an open protocol, all flags at once included."""
    env = {"OFREP_CLIENTS": {"clients/c": {"backend": True}}}
    [answer] = send(test_worker, path, method="POST", body='{"flagKey":"a"}', **env).answers
    assert answer.status == 403
