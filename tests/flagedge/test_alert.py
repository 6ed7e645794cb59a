"""Alerts: one text for a webhook that may be anything."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from structlog.testing import capture_logs

from flagedge.alert import send_alert
from flagedge.settings import Secret

URL = "https://hooks.example/services/T0/B0/secret-part"


def transport(status: int, seen: list[httpx.Request]) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status)

    return httpx.MockTransport(answer)


def test_a_text_is_posted() -> None:
    """As Slack takes it."""
    seen: list[httpx.Request] = []
    assert send_alert(Secret(URL), "flags are not deployed", transport=transport(200, seen))
    assert [(str(request.url), json.loads(request.content)) for request in seen] == [
        (URL, {"text": "flags are not deployed"})
    ]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses(status: int) -> None:
    """It is warned of; the URL, which is a secret, is not shown."""
    with capture_logs() as logs:
        assert not send_alert(Secret(URL), "text", transport=transport(status, []))
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("alert.failed", "warning")]
    assert "secret-part" not in json.dumps(logs)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/secret-part", "https://exa mple/secret-part"])
def test_a_webhook_that_is_not_there(url: str) -> None:
    """No answer is no failure of the run either."""
    with capture_logs() as logs:
        assert not send_alert(Secret(url), "text")
    assert "secret-part" not in json.dumps(logs)


def test_a_webhook_that_never_ends() -> None:
    """Its status is all that is waited for."""

    def talk() -> Iterator[bytes]:
        raise AssertionError("somebody listens")
        yield b""

    endless = httpx.MockTransport(lambda _: httpx.Response(200, content=talk()))
    assert send_alert(Secret(URL), "text", transport=endless)


def test_nobody_to_tell() -> None:
    """Without a URL nothing is sent, and nothing is left to be sent."""
    seen: list[httpx.Request] = []
    assert send_alert(Secret(""), "text", transport=transport(500, seen))
    assert not seen
