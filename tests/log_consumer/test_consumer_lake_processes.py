"""Four consumer processes on one lake, messages given to two of them at once, killed at any time: every message once.

FAULT_MATRIX=full lands ten times as many messages, kills ten times as often, and does all of it on S3 too.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from aws import Aws, run_aws
from messages import body, busy_request
from postgres import PASSWORD, Postgres
from shared_queue import SharedQueue, serve

from log_consumer.databases import S3, Lake
from log_consumer.query import query

IS_FULL = os.environ.get("FAULT_MATRIX") == "full"
PROCESSES = 4
MESSAGES, KILLS = (10_000, 60) if IS_FULL else (1_000, 6)
LOG_CONSUMER = Path(sys.executable).with_name("log-consumer")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    with run_aws(monkeypatch) as running:
        yield running


@pytest.fixture
def s3_lake(aws: Aws, postgres: Postgres) -> Lake:
    """A new lake in a bucket, for which AWS's own variables stand in the environment."""
    region = {"LocationConstraint": "eu-west-1"}
    aws.client("s3").create_bucket(Bucket="lake", CreateBucketConfiguration=region)
    lake = postgres.make_lake("s3://lake/flagedge")
    return replace(lake, s3=S3(f"http://127.0.0.1:{aws.moto_port}", "eu-west-1"))


@pytest.fixture
def queue() -> Iterator[SharedQueue]:
    bodies = (
        body(
            busy_request(number),
            isolate=f"isolate-{number % 7}",
            seq=number // 7,
            sent_at_ms=1_763_700_000_000 + number,
        )
        for number in range(MESSAGES)
    )
    with serve(SharedQueue(*bodies)) as served:
        yield served


class Crew:
    """Consumer processes; each is another consumer to the queue."""

    def __init__(self, lake: Lake, queue: SharedQueue) -> None:
        self._queue = queue
        self._environment = os.environ | {
            "CLOUDFLARE_API_BASE_URL": queue.url,
            "DATABASE": str(lake),
            "DATABASE_PASSWORD": PASSWORD,
            "LAKE_DATA_PATH": lake.data_path,
            "AWS_ENDPOINT_URL": lake.s3.endpoint,
            "PULL_BATCH_SIZE": "20",
            "BATCH_MAX_BYTES": "100000",
            "LOG_LEVEL": "warning",
        }
        self._numbers = itertools.count()
        self.members = dict(self._start() for _ in range(PROCESSES))

    def _start(self) -> tuple[str, subprocess.Popen[str]]:
        token = f"token-{next(self._numbers)}"
        environment = self._environment | {"CLOUDFLARE_API_TOKEN": token}
        return token, subprocess.Popen(
            [LOG_CONSUMER, "drain"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def kill_one(self, chance: random.Random) -> bool:
        """Kill one that is at work, and put another in its place; False when the queue is empty."""
        token, process = chance.choice(list(self.members.items()))
        while not self._queue.pulls_by[token]:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.4))
        if process.poll() is not None:
            return False
        process.send_signal(signal.SIGKILL)
        process.communicate()
        del self.members[token]
        self.members |= [self._start()]
        return True

    def finish(self) -> None:
        """Let all of them come to their end, which is a good one."""
        for process in self.members.values():
            said, _ = process.communicate(timeout=250)
            assert process.returncode == 0, said
            assert "HUNTER2" not in said

    def make_whole(self) -> None:
        """What killed ones left is delivered again to one that is not."""
        self._queue.end_leases()
        self.members = dict([self._start()])
        self.finish()

    def close(self) -> None:
        for process in self.members.values():
            with suppress(ProcessLookupError):
                process.kill()
            process.communicate()


def start(lake: Lake, queue: SharedQueue, request: pytest.FixtureRequest) -> Crew:
    crew = Crew(lake, queue)
    request.addfinalizer(crew.close)
    return crew


def assert_all_landed_once(lake: Lake, queue: SharedQueue) -> int:
    """Every message once, with all of its rows; how many redeliveries were ignored."""
    assert queue.messages == []
    landed = "select count(*), count(distinct (isolate, seq)), sum(duplicate_count)::bigint from ledger"
    rows = "select count(*), count(distinct (isolate, seq)) from exposures"
    ((count, keys, duplicate_count),) = query(lake, landed).rows
    assert (count, keys) == (MESSAGES, MESSAGES)
    assert query(lake, rows).rows == [(MESSAGES * 10, MESSAGES)]
    health = "select sum(landed_count), sum(missing_count) from delivery_health"
    assert query(lake, health).rows == [(MESSAGES, 0)]
    return int(duplicate_count)


def test_four_processes_land_each_message_once(lake: Lake, queue: SharedQueue, request: pytest.FixtureRequest) -> None:
    """A fifth of the messages is delivered to two of them at the same moment."""
    start(lake, queue, request).finish()
    assert queue.pair_count == MESSAGES // 5
    assert assert_all_landed_once(lake, queue) == MESSAGES // 5


def test_four_processes_on_s3_land_each_message_once(
    s3_lake: Lake, queue: SharedQueue, request: pytest.FixtureRequest
) -> None:
    """The same with Parquet in a bucket."""
    if not IS_FULL:
        queue.messages = queue.messages[:200]
    start(s3_lake, queue, request).finish()
    landed = "select count(*), count(distinct (isolate, seq)) from ledger"
    expected = MESSAGES if IS_FULL else 200
    assert queue.messages == []
    assert query(s3_lake, landed).rows == [(expected, expected)]
    assert query(s3_lake, "select count(*) from exposures").rows == [(expected * 10,)]


def test_processes_that_are_killed_lose_and_double_nothing(
    lake: Lake, queue: SharedQueue, request: pytest.FixtureRequest
) -> None:
    """kill -9 at random times, also while another one waits for the lock that the dead one had."""
    chance = random.Random(17)
    crew = start(lake, queue, request)
    killed_count = sum(crew.kill_one(chance) for _ in range(KILLS))
    crew.finish()
    crew.make_whole()
    assert killed_count >= KILLS // 2
    assert assert_all_landed_once(lake, queue) > 0
