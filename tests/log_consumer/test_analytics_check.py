"""`log-consumer check`: exit codes, one line for each failed check, and a webhook that is told once."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from deliveries import NOW, ask
from experiments import Experiment, enter_messages, plant

from flagedge.alert import TEXT_MAX_CHARS, send_alert
from flagedge.settings import Secret
from log_consumer.check import Finding, find_failed, tell_new, write_notice
from log_consumer.cli import main
from log_consumer.store import Reader, Store

HOSTILE = "a</script>'; drop table exposures; --<https://evil.example|click>\n\x1b[31m@here"


class Webhook:
    """Takes what Slack takes; `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.texts: list[str] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.texts.append(json.loads(body)["text"])
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                """Nothing is printed."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/secret-part"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.close()


@pytest.fixture
def environ(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALERT_WEBHOOK_URL", "AWS_LAMBDA_FUNCTION_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE", database)


def make(database: str, *experiments: Experiment) -> None:
    with Store(database) as store, store.transaction() as connection:
        for experiment in experiments:
            plant(connection, experiment)
        enter_messages(connection)


@pytest.mark.usefixtures("environ")
def test_nothing_is_wrong(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    make(database, Experiment())
    assert main(["check"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("environ")
def test_a_line_for_each_failed_check(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Alarms fail the command."""
    make(database, Experiment(leaked=0.01, bots=0.1))
    assert main(["check"]) == 1
    alarm, warning = capsys.readouterr().out.splitlines()
    assert alarm.startswith("alarm: flags/checkout/rules/r: leaks: ")
    assert warning.startswith("warning: flags/checkout/rules/r: bots: ")
    assert main(["check", "--json"]) == 1
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["leaks", "bots"]


@pytest.mark.usefixtures("environ")
def test_warnings_fail_only_a_strict_check(database: str) -> None:
    make(database, Experiment(bots=0.1))
    assert main(["check"]) == 0
    assert main(["check", "--strict"]) == 1


@pytest.mark.usefixtures("environ")
def test_the_webhook_is_told_once(
    database: str, webhook: Webhook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a new finding, and again when it comes back; what the webhook refused is told at the next run."""
    monkeypatch.setenv("ALERT_WEBHOOK_URL", webhook.url)
    make(database, Experiment(leaked=0.01))
    webhook.status = 500
    assert main(["check"]) == 1
    webhook.status = 200
    for _ in range(3):
        assert main(["check"]) == 1
    assert len(webhook.texts) == 2
    assert webhook.texts[0] == webhook.texts[1]
    make(database, Experiment("search", bots=0.1))
    main(["check"])
    assert "flags/checkout" not in webhook.texts[2]
    with Store(database) as store, store.transaction() as connection:
        connection.execute("delete from exposures")
    main(["check"])
    with Store(database) as store:
        assert ask(store, "select count(*) from told_findings") == [(0,)]
    assert len(webhook.texts) == 3
    assert "secret-part" not in "".join(capsys.readouterr())


@pytest.mark.usefixtures("environ")
def test_without_a_webhook_nothing_is_written(database: str) -> None:
    """A file that is being read by others can be checked."""
    make(database, Experiment(leaked=0.01))
    main(["check"])
    with Store(database) as store:
        assert ask(store, "select count(*) from told_findings") == [(0,)]


def test_hostile_names_stay_names(database: str) -> None:
    """On one line, without what moves a cursor, and for Slack without links and mentions."""
    make(database, Experiment(HOSTILE, leaked=0.01))
    with Reader(database) as reader:
        [finding] = find_failed(reader)
    assert finding.flag == f"flags/{HOSTILE}"
    line = str(finding)
    assert line.isprintable()
    notice = write_notice([finding])
    assert notice.count("\n") == 1
    assert "<" not in notice
    assert "&lt;https://evil.example|click&gt;" in notice


RULE = "flags/checkout-redesign-2026/rules/c3b1f9a2e7d04a5f9e"
WHY = "1,234 units have an assignment that nobody should have, 12 more may have it from an earlier allocation"


@pytest.mark.parametrize(
    ("rule", "count"),
    [("r", 50), (RULE, 25), (RULE, 12), (HOSTILE * 100, 1), (HOSTILE * 100, 40), ("<" * 5000, 3)],
)
def test_what_does_not_fit_is_counted(store: Store, webhook: Webhook, rule: str, count: int) -> None:
    """Whatever the names are, the webhook gets whole lines and the number of the rest, which is not told again."""
    findings = [Finding("leaks", "f", f"{rule}-{number}", "alarm", 1.0, WHY) for number in range(count)]
    send = partial(send_alert, Secret(webhook.url))
    assert tell_new(store, findings, send, now=NOW) == count
    assert tell_new(store, findings, send, now=NOW) == 0
    [text] = webhook.texts
    assert len(text) <= TEXT_MAX_CHARS
    head, *lines = text.splitlines()
    assert head.startswith(f"{count} new finding")
    rest = re.fullmatch(r"and (\d+) more", lines[-1])
    told = lines[:-1] if rest else lines
    assert len(told) + (int(rest[1]) if rest else 0) == count
    assert told
    assert all(line.startswith("alarm: ") and line.endswith(WHY) for line in told)


@pytest.mark.usefixtures("environ")
def test_a_wrong_webhook_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALERT_WEBHOOK_URL", "secret-part")
    assert main(["check"]) == 2
    assert "ALERT_WEBHOOK_URL must be an http(s) URL" in capsys.readouterr().err
