"""Odd answers to the gate: what is no Worker's is refused, and no wrong flag hides behind one that errs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import shop
from builders import assignment, client, credential, flag, payload, rule, state, variant

from flagedge.settings import Secret
from sync_job.decode import DecodedState, decode_state
from sync_job.gate import Gate, GateError


def gate_to(answer: Callable[[list[dict[str, Any]]], Any]) -> Gate:
    """A gate to a Worker that answers a probe's requests so."""

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=answer(json.loads(request.content)["requests"]))

    transport = httpx.MockTransport(handle)
    return Gate("http://w", "w", Secret("s"), "e", "", context_count=20, propagation_s=0, transport=transport)


SHOP = decode_state(shop.shop_payload())


@pytest.mark.parametrize("answer", [[], "e", {}, {"state_etag": "e"}, {"state_etag": "e", "answers": 1}])
def test_something_else_that_speaks_json_is_refused(answer: Any) -> None:
    """Whatever PROBE_URL leads to."""
    with pytest.raises(GateError, match="not one of a Worker of flagedge"):
        gate_to(lambda _: answer).prove(SHOP)


@pytest.mark.parametrize("answer", [None, {}, {"resolvedFlags": None}, {"resolvedFlags": [{}]}])
def test_answers_that_are_none_are_refused(answer: Any) -> None:
    """Also where no official resolver is there to judge them."""
    with pytest.raises(GateError, match="what is no answer"):
        gate_to(lambda asked: {"state_etag": "e", "answers": [answer] * len(asked)}).prove(SHOP)


def test_a_state_that_the_official_resolver_cannot_load_is_refused() -> None:
    """An operator may accept a field that is not known; by the official resolver it may be no state."""
    built = state(flag("a"), credentials=[credential(secret="s")])
    built.flags[0].MergeFromString(b"\x08\x01")  # its name, as a number
    with pytest.raises(GateError, match=r"cannot load state e: .*invalid wire type"):
        gate_to(lambda _: {"state_etag": "e", "answers": []}).prove(decode_state(payload(built)))


def _with_a_flag_that_errs() -> DecodedState:
    wrong = flag("errs", rule(assignments=[assignment("gone")]), variants=[variant("x")])
    built = state(wrong, flag("a"), flag("z"), clients=[client()], credentials=[credential(secret="s")])
    return decode_state(payload(built))


@pytest.mark.parametrize(("seen", "refused"), [("errs a z", ""), ("errs a", "flags/z"), ("errs a z y", "flags/y")])
def test_a_flag_that_errs_hides_no_other(seen: str, refused: str) -> None:
    """The official resolver fails a whole request for it: still each flag is held against the official one's."""
    decoded = _with_a_flag_that_errs()
    decided = {"errs": {"reason": "RESOLVE_REASON_ERROR"}}
    right = {
        "variant": "flags/a/variants/on", "value": {"name": "on"}, "reason": "RESOLVE_REASON_MATCH",
        "shouldApply": True, "assignmentOrigin": "flags/a/rules/r",
    }  # fmt: skip

    def answer(asked: list[dict[str, Any]]) -> Any:
        flags = [
            {"flag": f"flags/{name}"}
            | decided.get(name, json.loads(json.dumps(right).replace("flags/a", f"flags/{name}")))
            for name in seen.split()
        ]
        return {"state_etag": "e", "overrides": "", "answers": [{"resolvedFlags": flags}] * len(asked)}

    gate = gate_to(answer)
    if not refused:
        assert gate.prove(decoded).compared_count > 0
        return
    with pytest.raises(GateError, match=f"refused: {refused} for"):
        gate.prove(decoded)
