"""`make bench-resolve`: the Worker against the official wasm and a floor, in workerd; docs/benchmarks.md explains.

The peer writes no log JSON. Answers and log rows are compared while they are measured.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.inprocess import REQUESTS_MIN, InProcess, Isolate, measure_in_process, run_isolate
from bench.report import Figure, describe_machine
from bench.serve import CAN_MEASURE_PROCESSES, build_laden_floor, build_worker, stay_off_servers_core
from bench.states import DEMO_STATE, BenchState, demo, real, wide
from bench.traffic import CONNECTIONS, Http, make_floor, measure_http, measure_starts, measure_upload

ROUNDS = 30
# A round over HTTP is as long as two in one process.
ROUNDS_PER_HTTP_ROUND = 2
FLOORS_DIFFER_US = 1.0
STATES = ("demo", "wide", "real")
TARGETS: dict[str, tuple[float, float, float]] = {
    "synchronous": (20, 40, 35),
    "answer and log encoded": (13, 28, 23),
    "in process": (8, 15, 18),
    "http": (0.90, 0.88, 0.85),
    "log delivery": (20, 25, 30),
    "first answer": (7, 8, 10),
    "upload": (15, 25, 60),
}


def _target(figure: str, state: str) -> float:
    return TARGETS[figure][STATES.index(state)]


def show_in_process(state: str, found: InProcess) -> list[Figure]:
    """Figures 1 and 2: ratios of the peer's time to ours."""
    ours, logged, peer, raw = (found.time(name) for name in ("ours", "ours, logged", "peer", "raw wasm"))
    net_ours, net_peer = found.net("fetch: ours"), found.net("fetch: peer")
    floor = found.time("fetch: floor")
    return [
        Figure("synchronous, peer/ours", found.ratio("ours", "peer"), "x", _target("synchronous", state),
               note=f"ours {ours:.2f}, peer {peer:.1f}, raw wasm {raw:.1f} µs"),
        Figure("  answer and log encoded", found.ratio("ours, logged", "peer"), "x",
               _target("answer and log encoded", state), note=f"ours {logged:.2f} µs"),
        Figure("in process net of floor, peer/ours", net_peer / net_ours, "x", _target("in process", state),
               note=f"ours {net_ours:.1f}, peer {net_peer:.1f}, floor {floor:.1f} µs"),
    ]  # fmt: skip


def show_http(state: str, found: Http) -> list[Figure]:
    """Figure 3: CPU of the server's process per request."""
    cpu = {name: found.cpu(name) for name in found.cpu_micros}
    rates = ", ".join(f"{name} {found.rate(name):.0f}" for name in ("floor", "ours", "ours, queue"))
    sent = found.request_count / max(1, found.message_count)
    return [
        Figure("CPU over HTTP, floor/ours", found.floor_share, "", _target("http", state),
               note=f"ours {cpu['ours']:.1f}, floor {cpu['floor']:.1f} µs; requests/s: {rates}"),
        Figure("log delivery over HTTP", found.log_delivery, "µs", at_most=_target("log delivery", state),
               note=f"{sent:.0f} requests a message of {found.message_bytes / max(1, found.message_count):.0f} bytes"),
    ]  # fmt: skip


def show_start(state: str, worker: Path, floor: Path, subject: BenchState, draw: random.Random) -> list[Figure]:
    """Figure 4: what the Worker takes above its floor from the process's start to its first answer."""
    laden_floor = build_laden_floor(worker, floor)
    start, loading = measure_starts([worker, laden_floor], floor, lambda: next(subject.requests(draw, 1))[1])
    return [
        Figure("first answer above the floor's", start.answer_ms, "ms", at_most=_target("first answer", state),
               note=f"CPU {start.cpu_ms:.1f} ms, of which workerd takes {loading.cpu_ms:.1f} to load plan and bitsets"),
        Figure("memory after it above the floor's", start.rss_mb, "MB"),
    ]  # fmt: skip


def show_upload(state: str, worker: Path) -> list[Figure]:
    lean, whole = measure_upload(worker, bitsets=False), measure_upload(worker, bitsets=True)
    note = f"raw {lean.raw / 1e3:.1f} kB; with bitsets raw {whole.raw / 1e3:.1f}, gzip {whole.packed / 1e3:.1f} kB"
    return [
        Figure("upload without bitsets, gzip", lean.packed / 1e3, "kB", at_most=_target("upload", state), note=note)
    ]


def check(name: str, found: InProcess, http: Http | None) -> bool:
    """Print what was compared; whether all was well."""
    print(f"\n{name}: answers of {found.answer_bytes} bytes")
    print(f"  in process: {found.differences} of {found.compared} answers differ from the peer's,", end=" ")
    print(f"{found.logged} of {found.requests} requests logged; ", end="")
    print(f"the floors {found.floors_differ:.2f} µs apart{_doubt(found.floors_differ)}")
    good = found.differences == 0 and found.logged == found.requests
    if http is not None:
        print(f"  over HTTP: {http.differences} of {http.compared} answers differ from the peer's,", end=" ")
        print(f"{len(http.problems)} of {http.request_count} requests are logged wrongly; ", end="")
        print(f"the floors {http.floors_differ:.2f} µs apart{_doubt(http.floors_differ)}")
        for problem in http.problems[:5]:
            print(f"    {problem}")
        good = good and http.differences == 0 and not http.problems
    return good


def _doubt(floors_differ: float) -> str:
    return "" if floors_differ <= FLOORS_DIFFER_US else " (more than 1 µs: the machine is not quiet)"


def run_state(subject: BenchState, isolate: Isolate, draw: random.Random, rounds: int) -> bool:
    """Measure and print one state; whether answers and rows were right."""
    with tempfile.TemporaryDirectory() as directory:
        worker = build_worker(subject.payload, Path(directory))
        in_process = measure_in_process(isolate, subject, worker, draw, rounds)
        figures = show_in_process(subject.name, in_process)
        http = None
        if CAN_MEASURE_PROCESSES:
            floor = make_floor(worker, subject, draw)
            http = measure_http(worker, floor, subject, draw, max(3, rounds // ROUNDS_PER_HTTP_ROUND))
            figures += show_http(subject.name, http)
            figures += show_start(subject.name, worker, floor, subject, draw)
        figures += show_upload(subject.name, worker)
    good = check(subject.name, in_process, http)
    print(*figures, sep="\n", flush=True)
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.resolve", description="Measure the Worker beside the official resolver."
    )
    parser.add_argument("--state", choices=STATES, action="append", help="one state only (repeatable)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of {REQUESTS_MIN} requests or more")
    options = parser.parse_args(arguments)
    draw = random.Random()
    stay_off_servers_core()
    print(f"{describe_machine()}; over HTTP {CONNECTIONS} connections; medians of paired differences or ratios")
    if not CAN_MEASURE_PROCESSES:
        print("skipped: CPU over HTTP, log delivery and first answer, for only Linux tells a process's CPU time")
    makers = {"wide": lambda: wide(draw), "real": lambda: real(draw)}
    if DEMO_STATE.exists():
        makers["demo"] = demo
    wanted = [name for name in options.state or STATES if name in makers]
    with run_isolate() as isolate:
        results = [run_state(makers[name](), isolate, draw, options.rounds) for name in wanted]
    print(f"\n{describe_machine()}")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
