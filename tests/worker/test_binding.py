"""The `Flags` entry point, as another Worker calls it over a service binding in workerd."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from builders import SECRET, assignment, flag, payload, rule, schema, state, variant
from caller import run_caller
from segments import eq, segment

VALUE = {"on": True, "size": 5.0, "ratio": 0.5, "name": "é", "nested": {"depth": 2.0}}
PAYLOAD = payload(
    state(
        flag(
            "a",
            rule(assignments=[assignment("on")], selector="targeting_key"),
            variants=[variant("on", VALUE)],
            schema=schema({"on": bool, "size": int, "ratio": float, "name": str, "nested": {"depth": int}}),
        ),
        flag("off", rule(environments=["prod"])),
        flag("since", rule(segment="since", assignments=[assignment("on")]), variants=[variant("on", {})]),
        segments=[segment("since", eq("member.since", "2026-01-02T00:00:00.000Z"))],
    )
)
CALLER = """
export default {
  async fetch(request, env) {
    if (request.method === "GET") return env.SINK.fetch(request);
    // What JSON does not carry, and RPC does.
    const made = { $date: (text) => new Date(text), $bigint: BigInt };
    const revive = (key, value) => made[key]?.(value) ?? value?.$date ?? value?.$bigint ?? value;
    const { binding, method, args } = JSON.parse(await request.text(), revive);
    try {
      return Response.json({ value: await env[binding][method](...args) });
    } catch (error) {
      return Response.json({ error: error.name, message: error.message });
    }
  },
};
"""


class Caller:
    """A Worker that binds ours."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, method: str, *args: Any, binding: str = "FLAGS") -> Any:
        """What a call gives: `value`, or the `error` that it throws."""
        body = {"binding": binding, "method": method, "args": args}
        return httpx.post(self._url, content=json.dumps(body)).raise_for_status().json()

    def take_messages(self) -> Any:
        """The flag-log messages since the last time."""
        return httpx.get(self._url).raise_for_status().json()


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with run_caller(CALLER.encode(), PAYLOAD) as url:
        yield Caller(url)


LONG_ENOUGH_S = 5
WHO = {"targetingKey": "t"}
NO = False


@pytest.mark.parametrize(
    ("method", "key", "default", "value"),
    [
        ("getBooleanValue", "a.on", False, True),
        ("getNumberValue", "a.size", 0, 5),
        ("getNumberValue", "a.nested.depth", 0, 2),
        ("getStringValue", "flags/a.name", "", "é"),
        ("getObjectValue", "a.nested", {}, {"depth": 2}),
        ("getValue", "a.ratio", 0, 0.5),
        ("get", "a.on", "of any type", True),
        ("get", "nothing", "mine", "mine"),
        ("getBooleanValue", "off", True, True),
        ("getBooleanValue", "nothing", True, True),
    ],
)
def test_values(caller: Caller, method: str, key: str, default: Any, value: Any) -> None:
    """A value of the wanted type, or the default where the flag has none for this caller."""
    assert caller.call(method, key, default, WHO) == {"value": value}


def test_value_of_another_type_throws(caller: Caller) -> None:
    """The one thing that a value call does not forgive: the caller would get what it cannot handle."""
    assert caller.call("getStringValue", "a.on", "", WHO)["error"] == "TypeError"


def test_details(caller: Caller) -> None:
    """They tell how the value came about."""
    assert caller.call("getBooleanDetails", "a.on", NO, WHO)["value"] == {
        "flagKey": "a.on",
        "value": True,
        "reason": "TARGETING_MATCH",
        "variant": "flags/a/variants/on",
    }
    assert caller.call("getDetails", "off", "x", WHO)["value"]["reason"] == "DEFAULT"


@pytest.mark.parametrize(
    ("method", "key", "context", "code"),
    [
        ("getStringDetails", "a.on", WHO, "TYPE_MISMATCH"),
        ("getBooleanDetails", "nothing", WHO, "FLAG_NOT_FOUND"),
        ("getBooleanDetails", "a.nothing", WHO, "FLAG_NOT_FOUND"),
        ("getBooleanDetails", "a.on", {"targetingKey": 1.5}, "INVALID_CONTEXT"),
        ("getBooleanDetails", "a.on", ["no object"], "INVALID_CONTEXT"),
        ("getBooleanDetails", "a.on", {"visits": {"$bigint": "5"}}, "INVALID_CONTEXT"),
        ("getBooleanDetails", "a.on", {"a." * 200: 1}, "INVALID_CONTEXT"),
    ],
)
def test_details_never_throw(caller: Caller, method: str, key: str, context: Any, code: str) -> None:
    """A failure is the default and its code."""
    found = caller.call(method, key, NO, context)["value"]
    assert (found["value"], found["errorCode"], found["reason"]) == (False, code, "ERROR")


def test_whose_flags(caller: Caller) -> None:
    """The binding's props name the client; with one client they need not; for a stranger nothing can be evaluated."""
    assert caller.call("getBooleanValue", "a.on", NO, WHO, binding="PLAIN") == {"value": True}
    assert caller.call("getBooleanValue", "a.on", NO, WHO, binding="STRANGER") == {"value": False}
    found = caller.call("getBooleanDetails", "a.on", NO, WHO, binding="STRANGER")["value"]
    assert (found["value"], found["errorCode"]) == (False, "GENERAL")
    assert "clients/c" in found["errorMessage"]


def test_a_date_is_its_text(caller: Caller) -> None:
    """As it is in every other client's context, at any depth."""
    member = {"since": {"$date": "2026-01-02T00:00:00Z"}}
    assert caller.call("getObjectDetails", "since", {"no": 1}, {"member": member})["value"]["variant"]
    assert caller.call("getObjectDetails", "since", {"no": 1}, {"member": {"since": 5}})["value"]["value"] == {"no": 1}


def test_an_evaluation_is_an_exposure(caller: Caller) -> None:
    """The log outlives the call, and tells that it came over a binding."""
    assert caller.call("getBooleanValue", "a.on", NO, {"targetingKey": "exposed"}) == {"value": True}
    messages: list[dict[str, Any]] = []
    until_s = time.monotonic() + LONG_ENOUGH_S
    while not messages and time.monotonic() < until_s:
        messages = [message for message in caller.take_messages() if message["units"] == ["exposed"]]
        time.sleep(0.02)
    [message] = messages
    assert message["origins"][0]["source"] == "binding"
    assert message["exposures"]["unit"] == [0]


def test_confidence_api(caller: Caller) -> None:
    """`resolve` takes and gives the bodies of `flags:resolve`; a refusal is an error with its code."""
    request = {"clientSecret": SECRET, "evaluationContext": {"targeting_key": "t"}, "apply": True}
    found = caller.call("resolve", request)["value"]
    assert {each["flag"] for each in found["resolvedFlags"]} == {"flags/a", "flags/off", "flags/since"}
    assert "unknown_client_secret" in caller.call("resolve", {"clientSecret": "x"})["message"]
