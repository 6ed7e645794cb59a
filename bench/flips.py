"""`make bench-flips`: from a flag's change to answers by it, on both publish paths; docs/benchmarks.md explains.

A Worker is asked all the time. A new state is published, `sync-job run` is started, and the clock stops at the first
answer by that state. By KV, Workers look every RULES_TTL_MS, and KV's edge answers as stale as it may.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
from operators import operator_environ

from bench.report import Figure, describe_machine
from bench.states import word
from bench.sync import COMMAND, WORKER, small_state
from local_edge.server import LocalEdge

POLL_S = 0.02
MAC_KEY = base64.b64encode(bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Way:
    """A publish path under conditions; `worker_count` flips are measured at once, for those that take long."""

    name: str
    settings: Mapping[str, str]
    stale_s: float = 0.0
    is_proved: bool = True
    worker_count: int = 1
    limit_s: float = 4.0


def by_kv(ttl_ms: int, stale_s: float, *, worker_count: int = 1) -> Way:
    settings = {"PUBLISH": "kv", "STATE_MAC_KEY": MAC_KEY, "RULES_TTL_MS": str(ttl_ms)}
    name = f"kv, looked for every {ttl_ms / 1000:g} s, stale for {stale_s:g} s"
    return Way(name, settings, stale_s, worker_count=worker_count, limit_s=ttl_ms / 1000 + stale_s + 4)


SHORT = (Way("deploy", {}), Way("deploy, unproved", {}, is_proved=False), by_kv(1_000, 0), by_kv(1_500, 3))
FULL = by_kv(30_000, 60, worker_count=5)


class Flipper:
    """One Worker of an account, flipped by runs of the command."""

    def __init__(self, edge: LocalEdge, way: Way, folder: Path, secret: str, number: int) -> None:
        prefix = f"flips-{number}"
        self._secret = secret
        self._environ = (
            {"PATH": os.environ["PATH"], "HOME": str(folder)}
            | operator_environ(edge, secret)
            | {"CLOUDFLARE_ACCOUNT_ID": edge.edge.account_id, "WORKER_NAME_PREFIX": prefix}
            | dict(way.settings)
        )
        self.run()
        self._http = httpx.Client(base_url=edge.worker_url(f"{prefix}-{WORKER}"), timeout=30)
        if way.is_proved:
            self._environ["PROBE_URL"] = str(self._http.base_url).rstrip("/")

    def run(self) -> None:
        subprocess.run([COMMAND, "run"], env=self._environ, check=True, capture_output=True)

    def time_s(self) -> tuple[float, float]:
        """After a new state was published: seconds from the start of a run to its answers, and to the run's end."""
        before = self.flags()
        began = time.perf_counter()
        with subprocess.Popen(
            [COMMAND, "run"], env=self._environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            ended_s = 0.0
            while self.flags() == before:
                assert process.poll() in {None, 0}
                if process.poll() == 0 and not ended_s:
                    ended_s = time.perf_counter() - began
                time.sleep(POLL_S)
            took_s = time.perf_counter() - began
            assert process.wait() == 0
        return took_s, ended_s or time.perf_counter() - began

    def flags(self) -> set[str]:
        """The names of the flags; no two states have one in common."""
        body = {"clientSecret": self._secret, "evaluationContext": {"visitor_id": "v"}, "apply": True}
        answer = self._http.post("/v1/flags:resolve", json=body).raise_for_status()
        return {flag["flag"] for flag in answer.json()["resolvedFlags"]}


def show_way(way: Way, draw: random.Random, flips: int) -> Iterator[Figure]:
    """`flips` of them."""
    took: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as directory, LocalEdge(dir=Path(directory, "edge"), grace_s=0.2) as edge:
        secret = word(draw)
        edge.publish_state(secret, small_state(draw, secret))
        flippers = [Flipper(edge, way, Path(directory), secret, number) for number in range(way.worker_count)]
        edge.set_conditions(kv_stale_s=way.stale_s)
        with ThreadPoolExecutor(way.worker_count) as pool:
            while len(took) < flips:
                # At any moment between two looks.
                _stay_busy(flippers, draw.uniform(0, way.limit_s - 4))
                edge.publish_state(secret, small_state(draw, secret))
                took += pool.map(Flipper.time_s, flippers)
    answers = [each for each, _ in took]
    note = f"{len(took)} flips; median {median(answers):.2f} s"
    yield Figure(f"{way.name}: to new answer, worst", max(answers), "s", at_most=way.limit_s, note=note)
    if way.worker_count == 1:  # else runs wait for each other's CPU
        yield Figure(f"{way.name}: to the run's end", median(end for _, end in took), "s")


def _stay_busy(flippers: Sequence[Flipper], seconds: float) -> None:
    """Workers look behind requests only."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for flipper in flippers:
            flipper.flags()
        time.sleep(POLL_S)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure how long a flag's change takes to reach answers.")
    parser.add_argument("--flips", type=int, default=20)
    parser.add_argument("--full", action="store_true", help="with the times of the world: 30 s and 60 s, 6 minutes")
    parser.add_argument("--seed", type=int, help="for the states (default: another one each time)")
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    print(f"flips on {describe_machine()}")
    for way in (FULL,) if options.full else SHORT:
        for figure in show_way(way, draw, options.flips):
            print(figure, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
