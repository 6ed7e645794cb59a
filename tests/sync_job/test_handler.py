"""The Lambda handler: schedules, signed webhooks, deadlines, metrics."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
import shop
from sync_command import WORKER, Sync

from flagedge.errors import FlagedgeError, SettingsError
from flagedge.settings import Secret
from sync_job.deadline import OutOfTimeError
from sync_job.handler import handler, is_signed_event

SECRET = "the-webhook's-secret"
SCHEDULED = {"source": "aws.scheduler", "detail-type": "Scheduled Event"}


class Context:
    """What Lambda passes, with the time that is left."""

    def __init__(self, left_s: float = 300) -> None:
        self._left_s = left_s

    def get_remaining_time_in_millis(self) -> int:
        return int(self._left_s * 1000)


def signature(body: str, *, at_s: float | None = None, secret: str = SECRET) -> str:
    at = int(time.time() if at_s is None else at_s)
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.{body}'.encode(), hashlib.sha256).hexdigest()}"


def webhook(body: str = '{"flags":"changed"}', **headers: str) -> dict[str, Any]:
    """An event of a function URL."""
    return {"requestContext": {"http": {"method": "POST"}}, "headers": headers, "body": body, "isBase64Encoded": False}


@pytest.fixture(autouse=True)
def environment(sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's settings are the function's."""
    for name, value in sync.operator.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)


def last_log(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(capsys.readouterr().err.splitlines()[-1])
    return line


def test_a_schedule_deploys_and_a_second_event_finds_nothing_to_do(
    sync: Sync, capsys: pytest.CaptureFixture[str]
) -> None:
    """At-least-once events are harmless; each run ends with its metrics."""
    assert handler(SCHEDULED, Context())["outcome"] == "deployed"
    assert handler(SCHEDULED, Context())["outcome"] == "unchanged"
    line = last_log(capsys)
    assert (line["run_unchanged"], line["run_failed"], line["worker_name"]) == (1, 0, WORKER)
    [metrics] = line["_aws"]["CloudWatchMetrics"]
    assert metrics["Dimensions"] == [["worker_name"]]
    assert {metric["Name"] for metric in metrics["Metrics"]} <= line.keys()
    assert "state_age" in line
    assert sync.resolve(visitor_id="v")


def test_signed_webhook(sync: Sync) -> None:
    """A signed call runs and answers with the result."""
    body = '{"flags":"changed"}'
    answer = handler(webhook(body, **{"X-Flagedge-Signature": signature(body)}), Context())
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["outcome"] == "deployed"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-flagedge-signature": "t=1,v1=00"},
        {"x-flagedge-signature": signature("another body")},
        {"x-flagedge-signature": signature("{}", secret="another secret")},
        {"x-flagedge-signature": signature("{}", at_s=time.time() - 301)},
    ],
)
def test_unsigned_webhook_touches_nothing(sync: Sync, headers: dict[str, str]) -> None:
    """Without a fresh signature by the secret the answer is 401, and nobody is asked anything."""
    sync.requests()
    assert handler(webhook("{}", **headers), Context())["statusCode"] == 401
    assert sync.requests() == []


def test_without_a_secret_no_webhook_is_signed() -> None:
    """An empty key would sign for everybody."""
    event = webhook("{}", **{"x-flagedge-signature": signature("{}", secret="")})
    assert not is_signed_event(event, Secret(""), now_s=time.time())


def test_base64_body() -> None:
    """Function URLs pass binary bodies in base 64; the signature is over the bytes."""
    event = webhook(base64.b64encode(b"{}").decode(), **{"x-flagedge-signature": signature("{}")})
    assert is_signed_event(event | {"isBase64Encoded": True}, Secret(SECRET), now_s=time.time())


def test_too_little_time(sync: Sync, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that could not end in time writes nothing, says so, and counts as failed."""
    sync.requests()
    with pytest.raises(OutOfTimeError):
        handler(SCHEDULED, Context(left_s=10))
    assert not [call for call in sync.requests() if not call.startswith("GET")]
    line = last_log(capsys)
    assert (line["run_failed"], line["worker_name"]) == (1, WORKER)


def test_a_failure_raises_for_the_schedule_and_answers_the_webhook(sync: Sync) -> None:
    """Lambda's retries and alarms see an exception; a caller sees the reason and no secret."""
    sync.operator.publish(b"<html>502</html>")
    with pytest.raises(FlagedgeError, match="HTML"):
        handler(SCHEDULED, Context())
    answer = handler(webhook("{}", **{"x-flagedge-signature": signature("{}")}), Context())
    assert answer["statusCode"] == 500
    assert "HTML" in answer["body"]
    assert shop.WEB_SECRET not in answer["body"]


def test_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They raise too, all at once."""
    monkeypatch.setenv("FORCE_APPLY", "maybe")
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    with pytest.raises(SettingsError, match=r"CLOUDFLARE_API_TOKEN.*FORCE_APPLY"):
        handler(SCHEDULED, Context())
