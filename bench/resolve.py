"""`make bench-resolve`: the Worker against the official wasm, in workerd, in one run; docs/benchmarks.md explains.

The peer writes no log JSON. Answers are compared flag by flag while they are measured.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import itertools
import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import confidence
import httpx
from workerd import run_workerd

from bench.states import BenchState, real, wide
from flagedge.wire import state_pb2
from sync_job.assemble import BUNDLE
from sync_job.compile import Plan, compile_plan
from sync_job.decode import decode_state

BENCH_BUNDLE = Path("worker/build/bench")
OFFICIAL_WASM = Path(confidence.__file__).parent / "wasm/confidence_resolver.wasm"
DEMO_SECRET = "mkjJruAATQWjeY7foFIWfVAcBWnci2YF"
FLOORS_DIFFER_US = 1.0
# The clock of workerd counts whole milliseconds: a round has to last many of them.
BODIES = {"demo": 4_000, "wide": 1_500, "real": 500}
TARGETS = {
    "synchronous": {"demo": 20, "wide": 40, "real": 35},
    "answer and log encoded": {"demo": 13, "wide": 28, "real": 23},
    "in process, net of floor": {"demo": 8, "wide": 15, "real": 18},
}


@contextmanager
def run_subjects() -> Iterator[str]:
    """All subjects in one workerd, pinned to one core where the machine allows; its URL."""
    wasm = {"murmur3.wasm": BENCH_BUNDLE / "murmur3.wasm", "official.wasm": OFFICIAL_WASM}
    with run_workerd(BENCH_BUNDLE / "worker.js", wasm=wasm) as (url, process_id):
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process_id, {max(os.sched_getaffinity(0))})
        yield url


def bodies_for(subject: BenchState, draw: random.Random, count: int) -> list[str]:
    contexts = itertools.islice(subject.contexts(draw), count)
    return [
        json.dumps({"flags": [], "evaluationContext": context, "clientSecret": subject.secret, "apply": True})
        for context in contexts
    ]


def measure(url: str, subject: BenchState, plan: Plan, draw: random.Random, rounds: int) -> dict[str, Any]:
    """One run of all subjects over one state; repeated while its two floors disagree (three times at the most)."""
    envelope = state_pb2.ClientResolverState.FromString(subject.payload)
    job = {
        "plan": plan.text,
        "bits": base64.b64encode(plan.bits).decode(),
        "state": base64.b64encode(envelope.state).decode(),
        "account": envelope.account,
        "bodies": bodies_for(subject, draw, BODIES[subject.name]),
        "rounds": rounds,
    }
    for _ in range(3):
        result: dict[str, Any] = httpx.post(url, content=json.dumps(job), timeout=600).raise_for_status().json()
        floors = [median(result["micros"][name]) for name in ("fetch: floor", "fetch: floor again")]
        if abs(floors[0] - floors[1]) <= FLOORS_DIFFER_US:
            break
    return result


def report(name: str, result: dict[str, Any], plan: Plan) -> None:
    """Print one state's table."""
    micros = {subject: median(times) for subject, times in result["micros"].items()}
    floor = (micros["fetch: floor"] + micros["fetch: floor again"]) / 2
    ratios = {
        "synchronous": micros["peer"] / micros["ours"],
        "answer and log encoded": micros["peer"] / micros["ours, answer and log encoded"],
        "in process, net of floor": (micros["fetch: peer"] - floor) / (micros["fetch: ours"] - floor),
    }
    differing = f"{result['differences']} of {BODIES[name]} differ from the peer's"
    print(f"\n{name}: answers of {result['answer_bytes']} bytes; {differing}")
    for subject, time in micros.items():
        print(f"  {subject:32} {time:8.2f} µs")
    for figure, ratio in ratios.items():
        target = TARGETS[figure][name]
        print(f"  {figure:32} {ratio:8.1f} x   target {target} x{'' if ratio >= target else '   MISSED'}")
    modules = [(BUNDLE / module).read_bytes() for module in ("worker.js", "murmur3.wasm")] + [plan.text.encode()]
    packed = sum(len(gzip.compress(module, 9, mtime=0)) for module in modules)
    print(f"  upload without bitsets: {sum(map(len, modules)) / 1000:.1f} kB, gzip {packed / 1000:.1f} kB")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the Worker against the official resolver.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--demo-state", type=Path, default=Path("../shared/data/confidence_demo_state.pb"))
    options = parser.parse_args(arguments)
    draw = random.Random()
    subjects = [wide(draw), real(draw)]
    if options.demo_state.exists():
        subjects.insert(0, BenchState("demo", options.demo_state.read_bytes(), DEMO_SECRET, "visitor_id"))
    with run_subjects() as url:
        for subject in subjects:
            plan = compile_plan(decode_state(subject.payload), etag='"bench"')
            report(subject.name, measure(url, subject, plan, draw, options.rounds), plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
