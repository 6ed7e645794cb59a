"""Probes of a version: they leave what everybody else gets as it is, and are answered as everybody would be."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import shop
from oracle import Oracle
from workerd import TestWorker

from flagedge.settings import Secret
from sync_job.compile import compile_plan
from sync_job.decode import decode_state
from sync_job.signature import sign

STATE = shop.shop_payload()
CREDENTIAL = "clients/web-shop/clientCredentials/web"
CONTEXTS = list(shop.visitors(30))


def probe() -> dict[str, Any]:
    body = json.dumps({"requests": [{"credential": CREDENTIAL, "context": context} for context in CONTEXTS]})
    signature = sign(Secret(shop.WEB_SECRET), body.encode(), at_s=int(time.time()))
    return {"path": "/v1/probe", "body": body, "headers": {"x-flagedge-signature": signature}}


def resolve(context: dict[str, Any]) -> dict[str, Any]:
    body = {"clientSecret": shop.WEB_SECRET, "evaluationContext": context, "apply": True}
    return {"path": "/v1/flags:resolve", "body": json.dumps(body)}


@pytest.mark.parametrize("order", ["probe first", "probe last", "probe between"])
def test_probes_and_resolves_in_one_isolate(test_worker: TestWorker, order: str) -> None:
    """In whatever order they come, probes and resolves get the official resolver's answers."""
    before = {"probe first": 0, "probe last": len(CONTEXTS), "probe between": 1}[order]
    requests = [resolve(context) for context in CONTEXTS]
    requests.insert(before, probe())
    plan = compile_plan(decode_state(STATE), etag='"e"')
    answers = test_worker.run(plan, requests, env={"CONFIDENCE_CLIENT_SECRET": shop.WEB_SECRET}).answers
    probed = answers.pop(before).json["answers"]
    oracle = Oracle(STATE)
    for context, answer, proved in zip(CONTEXTS, answers, probed, strict=True):
        request = {"clientSecret": shop.WEB_SECRET, "evaluationContext": context, "apply": True}
        expected = oracle.resolve_flags(request)
        assert {flag["flag"]: flag for flag in answer.json["resolvedFlags"]} == expected
        assert {flag["flag"]: flag for flag in proved["resolvedFlags"]} == expected
