"""A backend with Confidence's own provider (`confidence-openfeature-provider`) and the edge agree on every visitor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import shop
from builders import encrypt_payload
from client_flags import Exposure, Site, deploy
from confidence.provider import ConfidenceProvider
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from operators import operator_environ

from flagedge.wire.logs_pb2 import WriteFlagLogsRequest
from local_edge.server import LocalEdge

STATE_KEY = "5f" * 32
VISITORS = list(shop.visitors(150, seed=9))
FLAGS = ("checkout-layout", "recommendations", "premium-banner", "live-chat", "free-shipping", "price-format")
LONG_ENOUGH_S = 10

Decisions = dict[tuple[str, str], tuple[Any, str]]
"""By visitor and flag: the value and the variant."""


class LocalCdn(httpx.BaseTransport):
    """Leads the provider, which knows one CDN, to the edge's."""

    def __init__(self, url: str) -> None:
        self._url = httpx.URL(url)
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = self._url.copy_with(path=self._url.path + request.url.path)
        return self._transport.handle_request(httpx.Request(request.method, url))

    def close(self) -> None:
        self._transport.close()


class KeptLogs:
    """The provider's destination of flag logs."""

    def __init__(self) -> None:
        self.exposures: list[Exposure] = []

    def write(self, request_bytes: bytes) -> None:
        for assigned in WriteFlagLogsRequest.FromString(request_bytes).flag_assigned:
            self.exposures += [
                Exposure(each.flag, each.rule, each.assignment_info.variant, each.targeting_key)
                for each in assigned.flags
                if each.HasField("assignment_info")
            ]

    def shutdown(self) -> None:
        pass


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEdge]:
    """An account with one state on its CDN, which backend and edge read."""
    with LocalEdge(dir=tmp_path_factory.mktemp("edge"), grace_s=0.5) as edge:
        edge.publish_state(shop.WEB_SECRET, encrypt_payload(shop.shop_payload(), STATE_KEY), encrypted=True)
        yield edge


@pytest.fixture(scope="module")
def site(edge: LocalEdge) -> Iterator[Site]:
    environ = operator_environ(edge, shop.WEB_SECRET, encrypted=True) | {"STATE_ENCRYPTION_KEY": STATE_KEY}
    with deploy(edge, environ) as site:
        yield site


def decide_by_backend(client: OpenFeatureClient) -> Decisions:
    decisions: Decisions = {}
    for visitor in VISITORS:
        for flag in FLAGS:
            context = EvaluationContext(attributes=visitor)
            details = client.get_object_details(flag, {"default": True}, context)
            assert details.error_code is None, details.error_message
            decisions[visitor["visitor_id"], flag] = (details.value, details.variant or "")
    return decisions


def decide_by_edge(url: str) -> Decisions:
    decisions: Decisions = {}
    headers = {"authorization": f"Bearer {shop.WEB_SECRET}"}
    with httpx.Client(base_url=url, headers=headers) as http:
        for visitor in VISITORS:
            answer = http.post("/ofrep/v1/evaluate/flags", json={"context": visitor}).raise_for_status()
            items = {item["key"]: item for item in answer.json()["flags"]}
            for flag in FLAGS:
                item = items[flag]
                decisions[visitor["visitor_id"], flag] = (item.get("value", {"default": True}), item["variant"])
    return decisions


def test_same_state_and_unit_are_the_same_decision(edge: LocalEdge, site: Site) -> None:
    """Value and variant of every flag of every visitor, and what the two log about them: rule, variant and unit."""
    logs = KeptLogs()
    with httpx.Client(transport=LocalCdn(edge.cdn_url)) as http:
        provider = ConfidenceProvider(shop.WEB_SECRET, STATE_KEY, http_client=http, flag_logger=logs)
        api.set_provider_and_wait(provider)
        try:
            by_backend = decide_by_backend(api.get_client())
        finally:
            api.clear_providers()
    by_edge = decide_by_edge(site.url)
    assert by_edge == by_backend
    assert len({variant for _, variant in by_edge.values()}) > len(FLAGS)
    exposures: list[Exposure] = []
    until = time.monotonic() + LONG_ENOUGH_S
    while len(exposures) < len(logs.exposures) and time.monotonic() < until:
        exposures += site.take_exposures()
        time.sleep(0.05)
    assert sorted(exposures) == sorted(logs.exposures)
    assert len(exposures) > len(VISITORS)
