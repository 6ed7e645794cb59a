"""Figures 1 and 2: all subjects in one isolate (worker/bench/entry.ts), by the CPU clock of its process.

Where no process may read another's CPU clock it is the time on the wall, which other processes disturb.
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import confidence
import httpx
from workerd import run_workerd

from bench.serve import CAN_MEASURE_PROCESSES, pin_to_servers_core, read_cpu_s
from bench.states import BenchState
from flagedge.wire import state_pb2

BENCH_BUNDLE = Path("worker/build/bench")
OFFICIAL_WASM = Path(confidence.__file__).parent / "wasm/confidence_resolver.wasm"
FLOORS_DIFFER_US = 1.0
RUNS_MAX = 2
# As many as the quickest subject takes in a window; the same bodies are used with new units in the next round.
BODY_COUNT = 15_000
WINDOW_S = 0.03
REQUESTS_MIN = 100
COMPARED_PER_ROUND = 20
WARM_UP_ROUNDS = 5
UNIT_MARK = "UNITUNITUNITUNITUNITUNITUNITUNIT"
NOTHING = "nothing"


class Isolate:
    """The bench's entry point in a workerd, pinned to one core where the machine allows."""

    def __init__(self, url: str, process_id: int) -> None:
        self._http = httpx.Client(base_url=url, timeout=600)
        self._process_id = process_id

    def call(self, path: str, body: Any) -> Any:
        answer = self._http.post(path, content=json.dumps(body)).raise_for_status()
        return answer.json() if answer.content else None

    def time(self, subject: str, count: int) -> float:
        """Seconds that a subject took for `count` requests, the call itself included."""
        before = self._now()
        self.call("/run", {"subject": subject, "count": count})
        return self._now() - before

    def _now(self) -> float:
        return read_cpu_s(self._process_id) if CAN_MEASURE_PROCESSES else time.perf_counter()


@contextmanager
def run_isolate() -> Iterator[Isolate]:
    wasm = {"murmur3.wasm": BENCH_BUNDLE / "murmur3.wasm", "official.wasm": OFFICIAL_WASM}
    with run_workerd(BENCH_BUNDLE / "worker.js", wasm=wasm) as (url, process_id):
        pin_to_servers_core(process_id)
        yield Isolate(url, process_id)


@dataclass(slots=True)
class InProcess:
    """What a run found. `micros`: by subject, microseconds per request of each round."""

    answer_bytes: int
    micros: dict[str, list[float]]
    compared: int = 0
    differences: int = 0
    requests: int = 0
    logged: int = 0

    def time(self, subject: str) -> float:
        """The median over the rounds."""
        return median(self.micros[subject])

    def ratio(self, subject: str, other: str) -> float:
        """How many times the time of `other` that of `subject` is: the median over the rounds, each with itself."""
        pairs = zip(self.micros[subject], self.micros[other], strict=True)
        return median(upper / lower for lower, upper in pairs)

    def net(self, subject: str) -> float:
        """The median over the rounds of what a subject takes above that round's floors."""
        rounds = zip(self.micros[subject], self.micros["fetch: floor"], self.micros["fetch: floor again"], strict=True)
        return median(time - (floor + again) / 2 for time, floor, again in rounds)

    @property
    def floors_differ(self) -> float:
        pairs = zip(self.micros["fetch: floor"], self.micros["fetch: floor again"], strict=True)
        return abs(median(floor - again for floor, again in pairs))


def measure_in_process(
    isolate: Isolate, state: BenchState, worker: Path, draw: random.Random, rounds: int
) -> InProcess:
    """One run of all subjects over one state, or the better of two when the first one's floors disagree."""
    envelope = state_pb2.ClientResolverState.FromString(state.payload)
    job = {
        "plan": (worker / "plan.json").read_text(),
        "bits": base64.b64encode((worker / "bitsets.bin").read_bytes()).decode(),
        "state": base64.b64encode(envelope.state).decode(),
        "account": envelope.account,
        "bodies": [body.replace(unit, UNIT_MARK) for unit, body in state.requests(draw, BODY_COUNT)],
        "unit_mark": UNIT_MARK,
    }
    runs: list[InProcess] = []
    while len(runs) < RUNS_MAX and all(run.floors_differ > FLOORS_DIFFER_US for run in runs):
        runs.append(_run(isolate, job, draw, rounds))
    return min(runs, key=lambda run: run.floors_differ)


def _run(isolate: Isolate, job: dict[str, Any], draw: random.Random, rounds: int) -> InProcess:
    about = isolate.call("/begin", job)
    found = InProcess(about["answer_bytes"], {name: [] for name in about["subjects"]})
    counts = dict.fromkeys(about["subjects"], REQUESTS_MIN)
    for number in range(-WARM_UP_ROUNDS, rounds):
        isolate.call("/freshen", None)
        call_s = min(isolate.time(NOTHING, 0) for _ in range(3))
        for name in draw.sample(about["subjects"], len(about["subjects"])):
            took = max(1e-9, isolate.time(name, counts[name]) - call_s) / counts[name]
            if number >= 0:
                found.micros[name].append(took * 1e6)
            else:
                counts[name] = min(BODY_COUNT, max(REQUESTS_MIN, round(WINDOW_S / took)))
        compared = isolate.call("/compare", {"count": COMPARED_PER_ROUND})
        found.compared += COMPARED_PER_ROUND
        found.differences += compared["differences"]
        found.requests, found.logged = compared["requests"], compared["logged"]
    return found
