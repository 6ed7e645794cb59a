"""`make bench-flips`: from a flag's change to answers and pages by it, on both publish paths.

A Worker is asked all the time. A new state is published, `sync-job run` is started, and the clocks stop at the first
answer and the first HTML by that state. By KV, Workers look every RULES_TTL_MS, and KV's edge answers as stale as it
may. docs/benchmarks.md explains.
"""

from __future__ import annotations

import argparse
import base64
import json
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
from builders import assignment, client, credential, flag, payload, rule, state, variant
from operators import operator_environ
from page_site import COOKIE, Shown, run_origin

from bench.report import Figure, describe_machine
from bench.states import experiment, segments, word
from bench.sync import COMMAND, WORKER
from local_edge.server import LocalEdge

EXPERIMENTS = 230
"""Beside the flag that is flipped: a state of 250 kB."""
FLAG = "flipped"
VISITOR = "0123456789abcdef"
PAGES = {"PAGE_FLAGS": json.dumps({"/*": [FLAG]})}
MAC_KEY = base64.b64encode(bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Way:
    """A publish path under conditions, asked every `poll_s`.

    `worker_count` flips are measured at once, for those that take long.
    """

    name: str
    settings: Mapping[str, str]
    stale_s: float = 0.0
    is_proved: bool = True
    worker_count: int = 1
    limit_s: float = 4.0
    poll_s: float = 0.02


def by_kv(ttl_ms: int, stale_s: float, *, worker_count: int = 1, poll_s: float = 0.02) -> Way:
    settings = {"PUBLISH": "kv", "STATE_MAC_KEY": MAC_KEY, "RULES_TTL_MS": str(ttl_ms)}
    name = f"kv, looked for every {ttl_ms / 1000:g} s, stale for {stale_s:g} s"
    return Way(name, settings, stale_s, worker_count=worker_count, limit_s=ttl_ms / 1000 + stale_s + 4, poll_s=poll_s)


SHORT = (Way("deploy", {}), Way("deploy, unproved", {}, is_proved=False), by_kv(1_000, 0), by_kv(1_500, 3))
FULL = by_kv(30_000, 60, worker_count=5, poll_s=0.25)


@dataclass(frozen=True, slots=True)
class Flip:
    """Seconds from the start of a run to the first answer and the first page by its state, and to the run's end."""

    answer_s: float
    page_s: float
    end_s: float


class Flipper:
    """One Worker of an account, in front of an origin whose pages are kept, flipped by runs of the command."""

    def __init__(self, edge: LocalEdge, way: Way, environ: Mapping[str, str], number: int) -> None:
        prefix = f"flips-{number}"
        self._poll_s = way.poll_s
        self._secret = environ["CONFIDENCE_CLIENT_SECRET"]
        own = {"WORKER_NAME_PREFIX": prefix, "LEASE": f"{environ['LEASE']}-{number}"}
        self._environ = dict(environ) | dict(way.settings) | own
        subprocess.run([COMMAND, "run"], env=self._environ, check=True, capture_output=True)
        self._http = httpx.Client(base_url=edge.worker_url(f"{prefix}-{WORKER}"), timeout=30)
        if way.is_proved:
            self._environ["PROBE_URL"] = str(self._http.base_url).rstrip("/")

    def time(self) -> Flip:
        """After a new state was published."""
        before = self.answer()
        took_s: dict[str, float] = {}
        began = time.perf_counter()
        with subprocess.Popen(
            [COMMAND, "run"], env=self._environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            signs = {
                "answer_s": lambda: self.answer() != before,
                "page_s": lambda: self.page() != before,
                "end_s": lambda: process.poll() is not None,
            }
            while len(took_s) < len(signs):
                for name in signs.keys() - took_s.keys():
                    if signs[name]():
                        took_s[name] = time.perf_counter() - began
                assert process.poll() in {None, 0}
                time.sleep(self._poll_s)
        return Flip(**took_s)

    def answer(self) -> str:
        """The variant that an answer has."""
        body = {"clientSecret": self._secret, "flags": [f"flags/{FLAG}"], "apply": True}
        answer = self._http.post("/v1/flags:resolve", json=body).raise_for_status()
        return str(answer.json()["resolvedFlags"][0]["variant"]).rpartition("/")[2]

    def page(self) -> str:
        """The variant that a page has; the cohort's page comes from the cache."""
        page = Shown(self._http.get("/", headers={"cookie": f"{COOKIE}={VISITOR}"}).raise_for_status())
        return str(page.variants[FLAG])


def flip_state(draw: random.Random, secret: str) -> bytes:
    """A state whose flag `FLAG` has a variant of its own."""
    names, made = segments(draw, 60)
    name = word(draw)
    flipped = flag(FLAG, rule(assignments=[assignment(name)]), variants=[variant(name)])
    flags = [flipped, *(experiment(draw, names, rules=2, fields=2) for _ in range(EXPERIMENTS))]
    built = state(*flags, segments=made, clients=[client()], credentials=[credential(secret=secret)])
    return payload(built, "bench")


def show_way(way: Way, draw: random.Random, count: int) -> Iterator[Figure]:
    """`count` flips."""
    flips: list[Flip] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        run_origin() as origin,
        LocalEdge(dir=Path(directory, "edge"), grace_s=0.2) as edge,
    ):
        origin.answer("/", cache_control="s-maxage=3600")
        secret = word(draw)
        edge.publish_state(secret, flip_state(draw, secret))
        environ = (
            {"PATH": os.environ["PATH"], "HOME": directory}
            | operator_environ(edge, secret)
            | {"CLOUDFLARE_ACCOUNT_ID": edge.edge.account_id, "PAGE_ORIGIN": origin.url}
            | PAGES
        )
        flippers = [Flipper(edge, way, environ, number) for number in range(way.worker_count)]
        edge.set_conditions(kv_stale_s=way.stale_s)
        with ThreadPoolExecutor(way.worker_count) as pool:
            while len(flips) < count:
                # At any moment between two looks.
                _stay_busy(flippers, draw.uniform(0, way.limit_s - 4), way.poll_s)
                edge.publish_state(secret, flip_state(draw, secret))
                flips += pool.map(Flipper.time, flippers)
    for name, took_s in (("answer", [flip.answer_s for flip in flips]), ("page", [flip.page_s for flip in flips])):
        note = f"{len(flips)} flips; median {median(took_s):.2f} s"
        yield Figure(f"{way.name}: to new {name}, worst", max(took_s), "s", at_most=way.limit_s, note=note)
    if way.worker_count == 1:  # else runs wait for each other's CPU
        yield Figure(f"{way.name}: to the run's end", median(flip.end_s for flip in flips), "s")


def _stay_busy(flippers: Sequence[Flipper], seconds: float, poll_s: float) -> None:
    """Workers look behind requests only."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for flipper in flippers:
            flipper.page()
        time.sleep(poll_s)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure how long a flag's change takes to reach answers.")
    parser.add_argument("--flips", type=int, default=20)
    parser.add_argument("--full", action="store_true", help="with the times of the world: 30 s and 60 s, 10 minutes")
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
