"""`make bench-state`: a state as large as they may get, against Cloudflare's limits; docs/benchmarks.md explains.

5,000 flags of ten clients, 500 segments with bitsets: dense ones (incompressible), sparse ones (100 to 10,000 units)
and contiguous ones (one to twenty ranges). Answers are compared with the official resolver's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from builders import client, credential, payload, state
from oracle import Oracle
from segments import BITSET_LENGTH, bitset

from bench.inspector import Inspector
from bench.report import Figure, describe_machine
from bench.serve import CAN_MEASURE_PROCESSES, Server, build_laden_floor, build_worker, serve, stay_off_servers_core
from bench.states import BenchState, experiment, segments, word
from bench.traffic import make_floor, measure_starts, measure_upload

FLAGS = 5_000
CLIENTS = 10
BITSETS = 500
SPARSE_UNITS = (100, 10_000)
RANGES_MAX = 20
DENSE_BYTES = BITSET_LENGTH // 8
ANSWERS_COMPARED = 3
TWO_PLANS_SCRIPT = Path("worker/bench/two_plans.js")
# Cloudflare's.
UPLOAD_MAX_BYTES = 64 * 1024 * 1024
START_CPU_MAX_MS = 1_000
MEMORY_MAX_MB = 128
_BUILD = """
import sys
from sync_job.cli import main
status = main(sys.argv[1:])
with open("/proc/self/status") as lines:
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
sys.exit(status)
"""


@dataclass(frozen=True, slots=True)
class Mix:
    """How many bitsets of each kind."""

    dense: int
    sparse: int
    contiguous: int

    def __str__(self) -> str:
        return f"{self.dense} dense, {self.sparse} sparse and {self.contiguous} contiguous bitsets"


MIXES = {"mixed": Mix(167, 167, 166), "dense": Mix(BITSETS, 0, 0)}


def make_states(draw: random.Random, mix: Mix) -> list[BenchState]:
    """The same state as each of its clients asks for it."""
    names, made = segments(draw, BITSETS)
    secrets = [word(draw) for _ in range(CLIENTS)]
    flags = []
    for number in range(FLAGS):
        flag = experiment(draw, names, rules=2 if number % 10 < 7 else 1, fields=2)
        flag.clients[:] = [f"clients/c{number % CLIENTS}"]
        flags.append(flag)
    bits = [dense(draw) for _ in range(mix.dense)] + [sparse(draw) for _ in range(mix.sparse)]
    bits += [contiguous(draw) for _ in range(mix.contiguous)]
    draw.shuffle(bits)
    built = state(
        *flags,
        segments=made,
        bitsets=[bitset(name, packed) for name, packed in zip(names, bits, strict=True)],
        clients=[client(f"c{number}") for number in range(CLIENTS)],
        credentials=[credential(client=f"c{number}", secret=secret) for number, secret in enumerate(secrets)],
    )
    encoded = payload(built, word(draw))
    return [BenchState("large", encoded, secret, "visitor_id") for secret in secrets]


def dense(draw: random.Random) -> bytes:
    return draw.randbytes(DENSE_BYTES)


def sparse(draw: random.Random) -> bytes:
    packed = bytearray(DENSE_BYTES)
    for index in draw.sample(range(BITSET_LENGTH), draw.randint(*SPARSE_UNITS)):
        packed[index >> 3] |= 1 << (index & 7)
    return bytes(packed)


def contiguous(draw: random.Random) -> bytes:
    bounds = sorted(draw.sample(range(BITSET_LENGTH), 2 * draw.randint(1, RANGES_MAX)))
    number = 0
    for lower, upper in zip(bounds[::2], bounds[1::2], strict=True):
        number |= ((1 << (upper - lower)) - 1) << lower
    return number.to_bytes(DENSE_BYTES, "little")


def measure_build(encoded: bytes, directory: Path) -> list[Figure]:
    """What `sync-job build` takes, from the process's start, and the most memory that it held."""
    file = directory / "measured.pb"
    file.write_bytes(encoded)
    command = [sys.executable, "-c", _BUILD, "build", "--state", str(file), "--out", str(directory / "measured")]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    took = time.perf_counter() - began
    peak_mb = int(done.stdout.split()[-1]) * 1024 / 1e6
    return [Figure("sync-job build", took, "s", note=f"peak memory {peak_mb:.0f} MB")]


def join_workers(first: Path, second: Path, directory: Path) -> Path:
    """A Worker that holds both in one isolate; `directory` is made."""
    metadata = json.loads((first / "metadata.json").read_text())
    directory.mkdir()
    (directory / "metadata.json").write_text(json.dumps(metadata | {"main_module": "two_plans.js"}))
    (directory / "two_plans.js").write_bytes(TWO_PLANS_SCRIPT.read_bytes())
    for name, worker in {"first": first, "second": second}.items():
        shutil.copytree(worker, directory / name)
    return directory


def show_start(worker: Path, floor: Path, one: BenchState, draw: random.Random) -> list[Figure]:
    """From the process's start to the first answer: above the floor, and above a floor that loads the same modules."""
    laden_floor = build_laden_floor(worker, floor)
    start, loading = measure_starts([worker, laden_floor], floor, lambda: next(one.requests(draw, 1))[1])
    note = f"above the floor's; {loading.cpu_ms:.0f} ms of it workerd takes to load the modules"
    return [
        Figure("CPU of start and first answer", start.cpu_ms, "ms", at_most=START_CPU_MAX_MS, note=note),
        Figure("first answer above the floor's", start.answer_ms, "ms"),
    ]


@dataclass(frozen=True, slots=True)
class Held:
    """Megabytes after every client of every plan was answered and garbage was collected."""

    heap_mb: float
    buffers_mb: float
    rss_mb: float

    @property
    def isolate_mb(self) -> float:
        return self.heap_mb + self.buffers_mb


def measure_memory(worker: Path, states: Sequence[BenchState], draw: random.Random) -> Held:
    with serve(worker, inspector=True) as server:
        for name in ("first", "second"):
            for one in states:
                _post(server, next(one.requests(draw, 1))[1], {"x-worker": name})
        _post(server, "", {"x-collect-garbage": "1"})
        with Inspector(server.inspector_port) as inspector:
            heap = inspector.read_heap()
        return Held(heap.used / 1e6, heap.buffers / 1e6, server.rss_bytes() / 1e6)


def _post(server: Server, body: str, headers: dict[str, str]) -> httpx.Response:
    url = f"http://127.0.0.1:{server.port}/v1/flags:resolve"
    return httpx.post(url, content=body, headers=headers, timeout=60).raise_for_status()


def show_memory(worker: Path, floor: Path, states: Sequence[BenchState], mix: Mix, draw: random.Random) -> list[Figure]:
    """Memory with no plan, one and two: V8's own numbers through the inspector, and the process's."""
    directory = worker.parent
    empty, one, two = (
        measure_memory(join_workers(first, second, directory / name), states, draw)
        for name, first, second in (
            ("no_plan", floor, floor),
            ("one_plan", worker, floor),
            ("two_plans", worker, worker),
        )
    )
    rest_mb = UPLOAD_MAX_BYTES / 1e6 - measure_upload(worker, bitsets=True).raw / 1e6
    dense_mb = mix.dense * DENSE_BYTES / 1e6
    room_mb = {
        "an upload": rest_mb + dense_mb,
        "one plan": MEMORY_MAX_MB - one.isolate_mb + dense_mb,
        "each of two plans": (MEMORY_MAX_MB - two.isolate_mb) / 2 + dense_mb,
    }
    room = ", ".join(f"{name} {mb * 1e6 / DENSE_BYTES:.0f}" for name, mb in room_mb.items())
    return [
        Figure("isolate without a plan", empty.isolate_mb, "MB"),
        *(
            Figure(
                f"isolate with {name}",
                held.isolate_mb,
                "MB",
                at_most=MEMORY_MAX_MB,
                note=f"heap {held.heap_mb:.1f}, buffers {held.buffers_mb:.1f}; "
                f"the process {held.rss_mb - empty.rss_mb:.0f} MB above one without",
            )
            for name, held in {"one plan": one, "two plans": two}.items()
        ),
        Figure("a dense bitset", DENSE_BYTES / 1e6, "MB", note=f"of which, beside the rest, fit: {room}"),
    ]


def count_differences(worker: Path, one: BenchState, draw: random.Random) -> int:
    """How many of some answers differ from the official resolver's."""
    oracle = Oracle(one.payload)
    differences = 0
    with serve(worker) as server:
        for _, body in one.requests(draw, ANSWERS_COMPARED):
            flags = _post(server, body, {}).json()["resolvedFlags"]
            differences += {flag["flag"]: flag for flag in flags} != oracle.resolve_flags(json.loads(body))
    return differences


def run_mix(mix: Mix, draw: random.Random) -> bool:
    """Measure and print one mix; whether the answers were right."""
    print(f"\n{FLAGS} flags, {mix}")
    states = make_states(draw, mix)
    with tempfile.TemporaryDirectory() as directory:
        figures = measure_build(states[0].payload, Path(directory))
        worker = build_worker(states[0].payload, Path(directory))
        size = measure_upload(worker, bitsets=True)
        plan_mb = (worker / "plan.json").stat().st_size / 1e6
        bits_mb = (worker / "bitsets.bin").stat().st_size / 1e6
        figures += [
            Figure("upload, raw", size.raw / 1e6, "MB", at_most=UPLOAD_MAX_BYTES / 1e6,
                   note=f"plan {plan_mb:.1f}, bitsets {bits_mb:.1f}"),
            Figure("upload, gzip", size.packed / 1e6, "MB", note="10 MB were the limit until 2026-09-04"),
        ]  # fmt: skip
        floor = make_floor(worker, states[0], draw)
        figures += show_start(worker, floor, states[0], draw)
        figures += show_memory(worker, floor, states, mix, draw)
        differences = count_differences(worker, states[0], draw)
    print(*figures, sep="\n")
    print(f"  {differences} of {ANSWERS_COMPARED} answers differ from the official resolver's", flush=True)
    return differences == 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.large", description="Measure a large state against Cloudflare's limits."
    )
    parser.add_argument("--mix", choices=MIXES, action="append", help="one mix of bitsets only (repeatable)")
    options = parser.parse_args(arguments)
    if not CAN_MEASURE_PROCESSES:
        print("skipped: only Linux tells a process's CPU time and memory")
        return 0
    stay_off_servers_core()
    print(describe_machine())
    draw = random.Random()
    results = [run_mix(MIXES[name], draw) for name in options.mix or MIXES]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
