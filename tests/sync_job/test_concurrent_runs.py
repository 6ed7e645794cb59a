"""Runs that meet: at the same moment, one inside the other's lease, and one that is overtaken while it dawdles."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import shop
from aws import Aws, run_aws
from sync_scenarios import CONTEXTS, STATES
from sync_site import Site, prove_quickly
from watch import Watch, right_answers

from local_edge.server import LocalEdge
from sync_job.job import RunResult
from sync_job.lease import LeaseLostError
from sync_job.traffic import OvertakenError

NEWEST = shop.shop_payload(checkout_split=(10, 10, 80))
KEY = "leases/worker.json"


class Gate(httpx.HTTPTransport):
    """Stops a run before a call, `METHOD last-path-segment`, the so manieth of its kind; again where `then` does."""

    def __init__(self, call: str, nth: int = 1, then: Gate | None = None) -> None:
        super().__init__(verify=False)
        self._then = then
        self._call = call
        self._left = nth
        self.reached = threading.Event()
        self.opened = threading.Event()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._stop(request)
        return super().handle_request(request)

    def _stop(self, request: httpx.Request) -> None:
        if f"{request.method} {request.url.path.rsplit('/', 1)[-1]}" == self._call:
            self._left -= 1
            if self._left == 0:
                self.reached.set()
                assert self.opened.wait(60)
        if self._then:
            self._then._stop(request)


@contextmanager
def stopped_run(site: Site, gate: Gate, **changes: str) -> Iterator[Future[RunResult]]:
    """A run that has come to the gate; it goes on when that is opened, at the latest with the end of the block."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: site.run(transport=gate, **changes))
        try:
            assert gate.reached.wait(30)
            yield running
        finally:
            gate.opened.set()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEdge]:
    with LocalEdge(dir=tmp_path_factory.mktemp("concurrent") / "edge", grace_s=4.0) as edge:
        yield edge


@pytest.fixture
def site(edge: LocalEdge, tmp_path: Path) -> Iterator[Site]:
    """An empty account, the state published."""
    site = Site(edge, tmp_path)
    site.publish(STATES["old"])
    yield site
    site.remove()


@pytest.fixture
def live_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The same with its Worker live; the next versions have to prove themselves."""
    prove_quickly(monkeypatch)
    site.run()
    site.probe_url = site.url
    return site


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    with run_aws(monkeypatch) as aws:
        aws.client("s3").create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield aws


@pytest.mark.parametrize("before", ["nothing", "the Worker with another state"])
def test_two_processes_at_once(site: Site, before: str) -> None:
    """One deploys, the other leaves with nothing done; both end with exit 0, and there is one key."""
    is_live = before != "nothing"
    if is_live:
        site.run()
        site.publish(STATES["new"])
    processes = [site.start("run", "--json") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    outcomes = {json.loads(out)["outcome"] for out, _ in said}
    assert outcomes in ({"deployed", "held"}, {"deployed", "unchanged"})
    assert [len(values) for values in site.token_keys().values()] == [1]
    assert len(site.edge.edge.scripts.deployments(site.worker_name)) == 1 + is_live
    assert site.run().outcome == "unchanged"


def test_a_run_inside_anothers_lease_is_held(live_site: Site) -> None:
    """While a run writes, another one changes nothing and ends with exit 0; the first one ends as if alone."""
    live_site.publish(STATES["new"])
    gate = Gate("POST versions")
    with stopped_run(live_site, gate) as running:
        live_site.edge.take_requests()
        process = live_site.start("run", "--json")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, json.loads(out)["outcome"]) == (0, "held"), err
        assert all(call.startswith("GET") for call in live_site.calls())
        gate.opened.set()
        assert running.result(30).outcome == "deployed"


def test_a_lease_in_s3_holds_others_until_its_time_is_over(live_site: Site, aws: Aws) -> None:
    """A killed run's lease holds the next ones, which leave with exit 0; once it has run out, a plain run does all."""
    environ = {"LEASE": f"s3://bucket/{KEY}"} | {name: os.environ[name] for name in os.environ if name[:4] == "AWS_"}
    live_site.publish(STATES["new"])
    live_site.edge.set_faults({"match": "POST .*/versions$", "kind": "timeout"})
    live_site.edge.take_requests()
    with live_site.start("run", **environ) as process:
        while "POST versions" not in live_site.calls() and process.poll() is None:
            pass
        process.kill()
    assert live_site.run(LEASE=environ["LEASE"]).outcome == "held"

    s3 = aws.client("s3")
    claim = json.loads(s3.get_object(Bucket="bucket", Key=KEY)["Body"].read())
    claim["expires_at"] = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    s3.put_object(Bucket="bucket", Key=KEY, Body=json.dumps(claim).encode())
    assert live_site.run(LEASE=environ["LEASE"]).outcome == "deployed"
    assert live_site.run(LEASE=environ["LEASE"]).outcome == "unchanged"


each_place = pytest.mark.parametrize(
    ("call", "nth"),
    [("PATCH script-settings", 1), ("POST versions", 1), ("GET deployments", 2), ("GET deployments", 3)],
    ids=["before the mark", "before the upload", "before the proof", "before the promotion"],
)


@each_place
def test_a_slow_run_is_overtaken(live_site: Site, call: str, nth: int) -> None:
    """A run whose base is not active any more stops with exit 1; what overtook it stays live, and nobody notices."""
    right = {"old": right_answers(STATES["old"], CONTEXTS), "newest": right_answers(NEWEST, CONTEXTS)}
    with Watch(lambda: live_site.url, CONTEXTS, right) as watch:
        live_site.publish(STATES["new"])
        gate = Gate(call, nth)
        with stopped_run(live_site, gate, LEASE="off") as slow:
            live_site.publish(NEWEST)
            assert live_site.run().outcome == "deployed"
            gate.opened.set()
            error = slow.exception(30)
        assert isinstance(error, OvertakenError)
        assert error.exit_code == 1
        watch.wait()
        live_site.run()
    assert (watch.wrong, watch.seen) == ([], ["old", "newest"])
    assert live_site.run().outcome == "unchanged"
    assert live_site.describe()["the live version is the latest"]


@each_place
def test_the_state_of_an_overtaken_run_is_not_taken_for_live(live_site: Site, call: str, nth: int) -> None:
    """When the state that a run failed to promote is current again, the next run deploys it."""
    live_site.publish(STATES["new"])
    gate = Gate(call, nth)
    with stopped_run(live_site, gate, LEASE="off") as slow:
        live_site.publish(NEWEST)
        live_site.run()
        gate.opened.set()
        assert isinstance(slow.exception(30), OvertakenError)
    live_site.publish(STATES["new"])
    assert live_site.run().outcome == "deployed"
    answers = {"new": right_answers(STATES["new"], CONTEXTS)}
    with Watch(lambda: live_site.url, CONTEXTS, answers) as watch:
        pass
    assert watch.wrong == []


def test_a_mark_set_meanwhile_is_left(live_site: Site) -> None:
    """A run is overtaken and marks its version as not live, before the other one takes off its own mark."""
    last = Gate("PATCH script-settings", 2)
    first = Gate("GET deployments", 2, then=last)
    live_site.publish(NEWEST)
    with stopped_run(live_site, first, LEASE="off") as winner:
        live_site.publish(STATES["new"])
        second = Gate("GET deployments", 2)
        with stopped_run(live_site, second, LEASE="off") as loser:
            first.opened.set()
            assert last.reached.wait(30)
            second.opened.set()
            assert isinstance(loser.exception(30), OvertakenError)
        last.opened.set()
        assert winner.result(30).outcome == "deployed"
    assert live_site.run().outcome == "deployed"
    with Watch(lambda: live_site.url, CONTEXTS, {"new": right_answers(STATES["new"], CONTEXTS)}) as watch:
        pass
    assert watch.wrong == []
    assert live_site.run().outcome == "unchanged"


def test_a_run_that_lost_its_lease_stops(live_site: Site) -> None:
    """Who finds its lease gone writes nothing more, and leaves a mark that makes the next run look closer."""
    live_site.publish(STATES["new"])
    gate = Gate("POST versions")
    with stopped_run(live_site, gate) as slow:
        Path(live_site.environ["LEASE"]).unlink()
        live_site.publish(NEWEST)
        assert live_site.run().outcome == "deployed"
        gate.opened.set()
        error = slow.exception(30)
    assert isinstance(error, LeaseLostError)
    assert error.exit_code == 1
    live_site.publish(STATES["new"])
    assert live_site.run().outcome == "deployed"
