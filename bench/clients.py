"""`make bench-clients`: what the open ways in cost beside the Confidence API; docs/benchmarks.md explains.

All in one workerd, by its CPU clock. Values are compared while they are measured.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from workerd import COMPATIBILITY_DATE, run_config

from bench.inprocess import BENCH_BUNDLE, NOTHING, UNIT_MARK, Isolate
from bench.report import Figure, describe_machine
from bench.serve import build_worker, pin_to_servers_core, stay_off_servers_core
from bench.states import BenchState, real, wide
from flagedge.wire import state_pb2

ROUNDS = 30
WARM_UP_ROUNDS = 3
CONTEXT_COUNT = 4_000
COUNT_MIN = 30
WINDOW_S = 0.03
COMPARED = 20
FLAG_COUNT = 10
BARE = Path("worker/bench/bare.js")
_CONFIG = """
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "bench", worker = .bench), (name = "flags", worker = .flags), (name = "bare", worker = .bare)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "bench")]
);
const bench :Workerd.Worker = (
  modules = [
    (name = "clients.js", esModule = embed "clients.js"), (name = "murmur3.wasm", wasm = embed "murmur3.wasm")
  ],
  compatibilityDate = "DATE",
  bindings = [
    (name = "FLAGS", service = (name = "flags", entrypoint = "Flags")),
    (name = "BARE", service = (name = "bare", entrypoint = "Flags"))
  ]
);
const flags :Workerd.Worker = (
  modules = [
    (name = "worker.js", esModule = embed "worker.js"), (name = "murmur3.wasm", wasm = embed "murmur3.wasm"),
    (name = "plan.json", text = embed "plan.json"), (name = "bitsets.bin", data = embed "bitsets.bin")
  ],
  compatibilityDate = "DATE"
);
const bare :Workerd.Worker = (
  modules = [(name = "bare.js", esModule = embed "bare.js")], compatibilityDate = "DATE"
);
"""


@dataclass(slots=True)
class Found:
    """`micros`: by subject, microseconds a call of each round."""

    micros: dict[str, list[float]] = field(default_factory=dict)
    differences: int = 0
    matches: int = 0

    def time(self, subject: str) -> float:
        return median(self.micros[subject])

    def net(self, subject: str) -> list[float]:
        """What a subject takes above its round's floors."""
        rounds = zip(self.micros[subject], self.micros["floor"], self.micros["floor again"], strict=True)
        return [time - (floor + again) / 2 for time, floor, again in rounds]

    def above(self, subject: str, other: str) -> float:
        """How much more a subject takes than another: the median over the rounds, each with itself."""
        return median(more - less for more, less in zip(self.micros[subject], self.micros[other], strict=True))

    def ratio(self, subject: str, other: str) -> float:
        return median(more / less for more, less in zip(self.micros[subject], self.micros[other], strict=True))

    def net_ratio(self, subject: str, other: str) -> float:
        return median(more / less for more, less in zip(self.net(subject), self.net(other), strict=True))


def measure(isolate: Isolate, state: BenchState, worker: Path, draw: random.Random, rounds: int) -> Found:
    subjects = isolate.call("/begin", _job_of(state, worker, draw))
    found = Found({name: [] for name in subjects})
    counts = dict.fromkeys(subjects, COUNT_MIN)
    for number in range(-WARM_UP_ROUNDS, rounds):
        isolate.call("/freshen", None)
        call_s = min(isolate.time(NOTHING, 0) for _ in range(3))
        for name in draw.sample(subjects, len(subjects)):
            took = max(1e-9, isolate.time(name, counts[name]) - call_s) / counts[name]
            if number >= 0:
                found.micros[name].append(took * 1e6)
            else:
                counts[name] = min(CONTEXT_COUNT, max(COUNT_MIN, round(WINDOW_S / took)))
    compared = isolate.call("/compare", {"count": COMPARED})
    found.differences, found.matches = compared["differences"], compared["matches"]
    return found


def _job_of(state: BenchState, worker: Path, draw: random.Random) -> dict[str, object]:
    envelope = state_pb2.ClientResolverState.FromString(state.payload)
    names = [flag.name for flag in state_pb2.ResolverState.FromString(envelope.state).flags]
    contexts = [
        json.dumps(json.loads(body)["evaluationContext"]).replace(unit, UNIT_MARK)
        for unit, body in state.requests(draw, CONTEXT_COUNT)
    ]
    return {
        "plan": (worker / "plan.json").read_text(),
        "bits": base64.b64encode((worker / "bitsets.bin").read_bytes()).decode(),
        "secret": state.secret,
        "flags": names[:FLAG_COUNT],
        "contexts": contexts,
        "unit_mark": UNIT_MARK,
    }


@contextmanager
def run_isolate(worker: Path) -> Iterator[Isolate]:
    """The bench's Worker beside the one in a directory of `sync-job build`, and beside the bare one."""
    files = {path.name: path.read_bytes() for path in worker.iterdir() if path.suffix != ".md"}
    files |= {"clients.js": (BENCH_BUNDLE / "clients.js").read_bytes(), "bare.js": BARE.read_bytes()}
    with run_config(_CONFIG.replace("DATE", COMPATIBILITY_DATE), files) as (url, process_id):
        pin_to_servers_core(process_id)
        yield Isolate(url, process_id)


def show(found: Found) -> list[Figure]:
    one, all_flags = (median(found.net(f"resolve {which}")) for which in ("one", "all"))
    return [
        Figure("OFREP, one flag / flags:resolve", found.net_ratio("evaluate one", "resolve one"), "x",
               note=f"resolve {one:.1f}, evaluate {median(found.net('evaluate one')):.1f} µs net of the floor"),
        Figure("OFREP, all flags / flags:resolve", found.net_ratio("evaluate all", "resolve all"), "x",
               note=f"resolve {all_flags:.1f}, evaluate {median(found.net('evaluate all')):.1f} µs"),
        Figure("binding, a value / a bare call", found.ratio("value", "bare call"), "x",
               note=f"{found.time('value'):.0f}, {found.time('bare call'):.0f} µs"),
        Figure("  above the bare call", found.above("value", "bare call"), "µs"),
        Figure(f"{FLAG_COUNT} values / one resolve of {FLAG_COUNT}", found.ratio("a value each", "one resolve"), "x",
               note=f"{found.time('a value each'):.0f}, {found.time('one resolve'):.0f} µs"),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    draw = random.Random()
    stay_off_servers_core()
    print(f"ways in, on {describe_machine()}")
    are_right = True
    for state in (wide(draw), real(draw)):
        with tempfile.TemporaryDirectory() as directory:
            worker = build_worker(state.payload, Path(directory))
            with run_isolate(worker) as isolate:
                found = measure(isolate, state, worker, draw, options.rounds)
        print(f"{state.name}: {found.differences} of {found.matches} values differ")
        for figure in show(found):
            print(figure, flush=True)
        are_right &= found.differences == 0 and found.matches > 0
    return 0 if are_right else 1


if __name__ == "__main__":
    sys.exit(main())
