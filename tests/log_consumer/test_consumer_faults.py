"""The consumer is killed at every step, over a real queue and a real Confidence; the next run makes it whole.

What was sent holds redeliveries of its own, a hundredth of poison, messages out of order, and two gaps on purpose.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from fake_confidence import OK, FakeConfidence, answer
from messages import body, decided, request
from operators import API_TOKEN

from flagedge.cloudflare import Cloudflare
from flagedge.settings import Secret
from local_edge.server import LocalEdge
from log_consumer.databases import parse_database
from log_consumer.handler import read_health
from log_consumer.settings import QUEUE, read_settings
from log_consumer.store import Store

COMMANDS = Path(sys.executable).parent
LEASE_MS = 1_000
ISOLATES = ("one", "two")
PER_ISOLATE = 100
GAPS = {"one": 17, "two": 40}
POISON = [f"poison {number}" for number in range(2)]
LANDING = [(isolate, seq) for isolate in ISOLATES for seq in range(PER_ISOLATE) if seq != GAPS[isolate]]

# The consumer with a fault: `point` names a call, and what becomes of the process before or after its second time.
FAULTY = """
    import os, signal, sys, time
    from flagedge import cloudflare
    from log_consumer import ack, cli, destination, job

    POINTS = {
        "pull": (cloudflare.Cloudflare, "pull_messages"),
        "load": (job, "load"),
        "commit": (ack.Acker, "ack"),
        "ack": (cloudflare.Cloudflare, "ack_messages"),
        "forward": (destination.Destination, "offer"),
    }
    fault, when, point = sys.argv[1:4]
    owner, name = POINTS[point]
    wrapped, calls = getattr(owner, name), []

    def strike():
        calls.append(point)
        if fault == "kill" and len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "slow" and len(calls) <= 2:
            time.sleep(1.3)

    def faulty(*arguments, **options):
        if when == "before":
            strike()
        result = wrapped(*arguments, **options)
        if when == "after":
            strike()
        return result

    setattr(owner, name, faulty)
    sys.exit(cli.main(["drain", "--json"]))
"""


def text_of(isolate: str, seq: int) -> str:
    dropped_count = 1 if seq == GAPS[isolate] + 1 else 0
    return body(request(decided(unit=f"{isolate}-{seq}")), isolate=isolate, seq=seq, dropped_count=dropped_count)


class Site:
    """A queue, a Confidence and a database, and the consumer's environment."""

    def __init__(self, edge: LocalEdge, confidence: FakeConfidence, database: Path) -> None:
        self.confidence = confidence
        self.database = database
        self.environ = {
            "PATH": os.environ["PATH"],
            "CLOUDFLARE_API_TOKEN": API_TOKEN,
            "CLOUDFLARE_API_BASE_URL": edge.api_url,
            "DATABASE": str(database),
            "VISIBILITY_TIMEOUT_MS": str(LEASE_MS),
            "PULL_BATCH_SIZE": "20",
            "BATCH_MAX_BYTES": "40000",
            "FORWARD": "edge",
            "CONFIDENCE_CLIENT_SECRET": "client-secret",
            "FORWARD_EDGE_URL": confidence.edge_url,
        }
        with Cloudflare(api_token=Secret(API_TOKEN), account_id="", base_url=edge.api_url) as cloudflare:
            queue_id = cloudflare.create_queue(QUEUE).queue_id
            cloudflare.create_pull_consumer(queue_id)
            sent = [text_of(*key) for key in LANDING] + [text_of(*key) for key in LANDING[::10]] + POISON
            random.Random(5).shuffle(sent)
            for text in sent:
                cloudflare.send_message(queue_id, text)

    def drain(self, fault: str = "", when: str = "", point: str = "") -> subprocess.CompletedProcess[str]:
        command = [COMMANDS / "log-consumer", "drain", "--json"]
        if fault:
            command = [sys.executable, "-c", textwrap.dedent(FAULTY), fault, when, point]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)

    def recover(self) -> None:
        """Drain until everything was delivered, in runs that are as they should be."""
        time.sleep(LEASE_MS / 1000)
        for _ in range(5):
            done = self.drain()
            assert done.returncode == 0, done.stderr
            if json.loads(done.stdout)["message_count"] == 0:
                return

    def pass_minutes(self) -> None:
        """Let the hold on the outbox end that a killed forwarder leaves."""
        with Store(parse_database(str(self.database))) as store, store.transaction() as connection:
            connection.execute("update forwarder set until = until - interval 10 minutes")

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def verify(self) -> None:
        """Rows are what was sent, once; what is missing is what was left out; Confidence was told of every unit."""
        assert self.ask("select isolate, seq from exposures order by all") == sorted(LANDING)
        assert self.ask("select isolate, seq from ledger order by all") == sorted(LANDING)
        assert self.ask("select body from rejected_messages order by all") == [(text,) for text in POISON]
        [(missing, dropped)] = self.ask("select sum(missing_count), sum(dropped_count) from delivery_health")
        assert (missing, dropped) == (len(GAPS), len(GAPS))
        assert set(self.confidence.taken_units) == {f"{isolate}-{seq}" for isolate, seq in LANDING}
        assert self.ask("select count(*) from outbox") == [(0,)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with LocalEdge(dir=tmp_path / "edge") as edge, FakeConfidence() as confidence:
        yield Site(edge, confidence, tmp_path / "exposures.duckdb")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", ["pull", "load", "commit", "ack", "forward"])
def test_a_kill_at_any_step_loses_and_doubles_nothing(site: Site, point: str, when: str) -> None:
    assert site.drain("kill", when, point).returncode == -9
    site.pass_minutes()
    site.recover()
    site.verify()


def test_leases_that_end_while_a_batch_is_loaded(site: Site) -> None:
    """What is delivered again meanwhile is counted, and the ack of a lease that ended harms nothing."""
    site.environ["PULL_BATCH_SIZE"] = "100"
    done = site.drain("slow", "before", "load")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["duplicate_count"] > len(LANDING[::10])
    site.recover()
    site.verify()


def test_a_database_that_somebody_holds_open(site: Site) -> None:
    """The drain waits for it; an analyst who stays costs a clear error, and nothing."""
    duckdb.connect(str(site.database)).close()
    with duckdb.connect(str(site.database)):
        held = subprocess.Popen([COMMANDS / "log-consumer", "drain"], env=site.environ, stdout=subprocess.DEVNULL)
        time.sleep(1.5)
        assert held.poll() is None
    assert held.wait(120) == 0
    site.recover()
    site.verify()


def test_confidence_down_for_a_day(site: Site) -> None:
    """Rows land as ever; when it is back a day later, the next run tells it everything."""
    site.confidence.respond = lambda _: answer(503, headers={"retry-after": "3600"})
    assert site.drain().returncode == 0
    site.recover()
    assert site.ask("select count(*) from exposures") == [(len(LANDING),)]
    site.confidence.respond = lambda _: OK
    with duckdb.connect(str(site.database)) as connection:
        connection.execute(
            "update outbox set next_at = next_at - interval 1 day, landed_at = landed_at - interval 1 day"
        )
    site.recover()
    site.verify()
    [(lag_s,)] = site.ask("select max(max_lag_s) from forwarding where state = 'delivered'")
    assert lag_s > 86_000


def test_what_an_operator_is_told(site: Site) -> None:
    """The health that the handler measures: exactly what was dropped on purpose, and the poison."""
    site.recover()
    assert read_health(read_settings(site.environ)) == {
        "missing_count": 0,  # of the last day; these messages are older
        "rejected_messages_count": len(POISON),
        "forward_waiting_count": 0,
        "forward_parked_count": 0,
    }
