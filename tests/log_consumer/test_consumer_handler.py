"""The Lambda handler: a drain that ends before its deadline, and says what an alarm has to know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from messages import body
from operators import API_TOKEN

from flagedge.cloudflare import Cloudflare
from flagedge.errors import ApiError, FlagedgeError, SettingsError
from flagedge.settings import Secret
from local_edge.server import LocalEdge
from log_consumer import handler as module
from log_consumer.handler import handler

QUEUE = "flag-logs-queue"


class Context:
    """A Lambda's, with so many seconds left."""

    def __init__(self, left_s: float = 300) -> None:
        self._left_s = left_s

    def get_remaining_time_in_millis(self) -> int:
        return int(self._left_s * 1000)


class Site:
    """An account with both queues, and the function's environment."""

    def __init__(self, edge: LocalEdge, database: Path) -> None:
        self.database = database
        self.cloudflare = Cloudflare(api_token=Secret(API_TOKEN), account_id="", base_url=edge.api_url)
        self.cloudflare.find_account_id()
        self.queues = {name: self.cloudflare.create_queue(name).queue_id for name in (QUEUE, f"{QUEUE}-dlq")}
        self.cloudflare.create_pull_consumer(self.queues[QUEUE], dead_letter_queue=f"{QUEUE}-dlq")

    def send(self, *bodies: str, queue: str = QUEUE) -> None:
        for each in bodies:
            self.cloudflare.send_message(self.queues[queue], each)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with LocalEdge(dir=tmp_path / "edge") as edge:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", API_TOKEN)
        monkeypatch.setenv("CLOUDFLARE_API_BASE_URL", edge.api_url)
        monkeypatch.setenv("DATABASE", str(tmp_path / "exposures.duckdb"))
        monkeypatch.setenv("FORWARD", "off")
        made = Site(edge, tmp_path / "exposures.duckdb")
        with made.cloudflare:
            yield made


def measured(text: str) -> dict[str, Any]:
    """The line that CloudWatch takes metrics from."""
    [line] = [json.loads(line) for line in text.splitlines() if '"_aws"' in line]
    return dict(line)


def test_a_drain_with_its_metrics(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.send(body(seq=0), body(seq=2), "poison")
    summary = handler({}, Context())
    assert (summary["loaded_count"], summary["rejected_count"], summary["missing_count"]) == (2, 1, 0)
    line = measured(capfd.readouterr().err)
    names = {metric["Name"] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert names <= line.keys()
    assert (line["messages_loaded"], line["messages_rejected"], line["rejected_messages_count"]) == (2, 1, 1)
    assert (line["drain_failed"], line["queue"]) == (0, QUEUE)


def test_dead_letters_are_drained_too(site: Site) -> None:
    """The dead-letter queue is given a pull consumer where it has none."""
    site.send(body(seq=0))
    site.send(body(seq=1), queue=f"{QUEUE}-dlq")
    summary = handler({}, Context())
    assert (summary["loaded_count"], summary["dead_letter_count"]) == (2, 1)
    assert site.ask("select seq from ledger order by seq") == [(0,), (1,)]
    assert handler({}, Context())["message_count"] == 0


def test_a_pull_consumer_may_be_others_to_make(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKE_RESOURCES", "false")
    site.send(body(), queue=f"{QUEUE}-dlq")
    assert handler({}, Context())["message_count"] == 0
    assert site.cloudflare.list_queue_consumers(site.queues[f"{QUEUE}-dlq"]) == []


def test_no_time_left_pulls_nothing(site: Site) -> None:
    site.send(body())
    assert handler({}, Context(left_s=1))["message_count"] == 0
    assert handler({}, Context())["loaded_count"] == 1


def test_the_deadline_ends_a_drain_well(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was pulled is loaded and acked; the rest is there for the next one."""
    monkeypatch.setattr(module, "MARGIN_S", 0.0)
    monkeypatch.setenv("PULL_BATCH_SIZE", "1")
    monkeypatch.setenv("MAX_CONCURRENT_PULLS", "1")
    monkeypatch.setenv("BATCH_MAX_BYTES", "1")
    site.send(*(body(seq=seq) for seq in range(60)))
    first = handler({}, Context(left_s=0.5))["loaded_count"]
    assert 0 < first < 60
    monkeypatch.setenv("PULL_BATCH_SIZE", "100")
    second = handler({}, Context())
    assert first + second["loaded_count"] + second["duplicate_count"] >= 60
    assert site.ask("select count(*), count(distinct seq) from exposures") == [(60, 60)]


def test_a_failure_raises_and_is_measured(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKER_NAME_PREFIX", "absent")
    with pytest.raises(ApiError, match="there is no queue absent-flag-logs-queue"):
        handler({}, Context())
    line = measured(capfd.readouterr().err)
    assert (line["drain_failed"], line["queue"]) == (1, f"absent-{QUEUE}")
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    with pytest.raises(SettingsError, match="CLOUDFLARE_API_TOKEN"):
        handler({}, Context())


def test_a_schedule_may_maintain(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same function puts the tables in order, and needs no token for it."""
    site.send(body())
    handler({}, Context())
    monkeypatch.setenv("RETENTION_DAYS", "30")
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    assert handler({"command": "maintain"}, Context())["deleted_rows"]["exposures"] == 1
    assert site.ask("select count(*) from exposures") == [(0,)]
    line = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert (line["event"], line["maintain_failed"], line["queue"]) == ("maintain.finished", 0, QUEUE)


def test_a_command_that_is_none_is_no_drain() -> None:
    """Else a schedule with a slip of the pen would never throw anything away, and nobody would know."""
    with pytest.raises(SettingsError, match="'maintian'"):
        handler({"command": "maintian"}, Context())


def test_a_maintenance_that_fails_is_measured(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Under the same dimension as one that succeeds, or no alarm would see it."""
    monkeypatch.setenv("DATABASE", str(site.database.parent))
    with pytest.raises(FlagedgeError):
        handler({"command": "maintain"}, Context())
    line = measured(capfd.readouterr().err)
    assert (line["maintain_failed"], line["queue"]) == (1, QUEUE)
