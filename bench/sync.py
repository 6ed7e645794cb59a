"""`make bench-sync`: runs of sync_job as whole processes against an account on loopback; docs/benchmarks.md explains.

Unchanged: all that most scheduled runs do, beside a process that imports httpx and structlog. Changed: from the moment
that a new state is published until the Worker answers by it. Override: from the start of the command until then.
Large: a state of 5,000 flags and 20 MB, compiled.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from builders import client, credential, payload, state
from operators import operator_environ
from segments import BITSET_LENGTH, bitset

from bench.report import Figure, describe_machine
from bench.states import experiment, segments, word
from local_edge.server import LocalEdge

COMMAND = Path(sys.executable).parent / "sync-job"
WORKER = "confidence-cloudflare-resolver"
FLOOR = "import httpx, structlog"
SMALL_BYTES = 250_000
LARGE_BYTES = 20_000_000
LARGE_FLAGS = 5_000
POLL_S = 0.005
# What the system calls the most memory of a child counts its parent's: a process has to say it of itself.
_PEAK = """
import sys
{work}
with open("/proc/self/status") as lines:
    peak = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
print(peak, file=sys.stderr)
"""
_SYNC_JOB = "from sync_job.cli import main\nstatus = main(sys.argv[1:])\nassert status == 0"


class Shell:
    """Starts processes with an operator's settings and nothing else."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir()} | dict(environ)

    def time_s(self, *command: str | Path, **settings: str) -> float:
        """From start to end."""
        began = time.perf_counter()
        subprocess.run(command, env=self.environ | settings, check=True, capture_output=True)
        return time.perf_counter() - began

    def peak_mb(self, work: str, *arguments: str | Path, **settings: str) -> float:
        """The most memory that a process held which does the work, Python code."""
        command = [sys.executable, "-c", _PEAK.format(work=work), *arguments]
        done = subprocess.run(command, env=self.environ | settings, check=True, capture_output=True, text=True)
        return int(done.stderr.split()[-1]) * 1024 / 1e6


def small_state(draw: random.Random, secret: str) -> bytes:
    """Of 250 KB, flags and segments alone."""
    names, made = segments(draw, 60)
    flags: list[Any] = []
    encoded = b""
    while len(encoded) < SMALL_BYTES:
        flags += [experiment(draw, names, rules=2, fields=2) for _ in range(10)]
        encoded = _encode(flags, made, [], secret)
    return encoded


def large_state(draw: random.Random, secret: str) -> bytes:
    """Of 20 MB, 5,000 flags and as many bitsets of random bits as there is room for."""
    names, made = segments(draw, 500)
    flags = [experiment(draw, names, rules=2, fields=2) for _ in range(LARGE_FLAGS)]
    room = LARGE_BYTES - len(_encode(flags, made, [], secret))
    count = max(0, room // (BITSET_LENGTH // 8))
    bits = [bitset(name, draw.randbytes(BITSET_LENGTH // 8)) for name in names[:count]]
    return _encode(flags, made, bits, secret)


def _encode(flags: Sequence[Any], made: Sequence[Any], bits: Sequence[Any], secret: str) -> bytes:
    built = state(*flags, segments=made, bitsets=bits, clients=[client()], credentials=[credential(secret=secret)])
    return payload(built, "bench")


def show_unchanged(shell: Shell, edge: LocalEdge, rounds: int) -> Iterator[Figure]:
    """A run that finds nothing to do, and a process that does nothing."""
    settings = {"CLOUDFLARE_ACCOUNT_ID": edge.edge.account_id}
    edge.take_requests()
    shell.time_s(COMMAND, "run", **settings)
    calls = edge.take_requests()
    assert {call["method"] for call in calls} == {"GET"}
    took: list[float] = []
    floor: list[float] = []
    for _ in range(rounds):
        floor.append(shell.time_s(sys.executable, "-c", FLOOR))
        took.append(shell.time_s(COMMAND, "run", **settings))
    spread = f"{min(took):.2f} to {max(took):.2f}; the floor {min(floor):.2f} to {max(floor):.2f}"
    yield Figure("unchanged run, requests", len(calls), "", at_most=2)
    yield Figure("unchanged run", median(took), "s", at_most=0.35, note=spread)
    yield Figure("  floor", median(floor), "s", note="imports httpx and structlog")
    yield Figure("unchanged run, peak memory", shell.peak_mb(_SYNC_JOB, "run", **settings), "MB", at_most=45)
    yield Figure("  floor", shell.peak_mb(FLOOR), "MB")


def show_changed(name: str, shell: Shell, edge: LocalEdge, draw: random.Random, *, rounds: int) -> Iterator[Figure]:
    """New states, one after the other, each until a resolve is answered by it."""
    secret = shell.environ["CONFIDENCE_CLIENT_SECRET"]
    to_answer, to_end, size_bytes = [], [], 0
    with httpx.Client(base_url=edge.worker_url(WORKER), timeout=10) as http:
        for _ in range(rounds):
            before = _resolved_flags(http, secret)
            encoded = small_state(draw, secret)
            size_bytes = len(encoded)
            edge.take_requests()
            began = time.perf_counter()
            edge.publish_state(secret, encoded)
            with subprocess.Popen(
                [COMMAND, "run"], env=shell.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                while _resolved_flags(http, secret) == before:
                    assert process.poll() in {None, 0}
                    time.sleep(POLL_S)
                to_answer.append(time.perf_counter() - began)
            to_end.append(time.perf_counter() - began)
            assert process.returncode == 0
            calls = _api_calls(edge)
    note = f"a state of {size_bytes / 1000:.0f} kB; {min(to_answer):.2f} to {max(to_answer):.2f}"
    yield Figure(f"{name}, to new answer", median(to_answer), "s", at_most=2, note=note)
    yield Figure(f"{name}, to its end", median(to_end), "s")
    yield Figure(f"{name}, API calls", calls, "")


def show_override(name: str, shell: Shell, edge: LocalEdge, rounds: int) -> Iterator[Figure]:
    """Break-glass: a flag switched off and on again, each until a resolve is answered so."""
    secret, settings = shell.environ["CONFIDENCE_CLIENT_SECRET"], {"CLOUDFLARE_ACCOUNT_ID": edge.edge.account_id}
    to_answer: list[float] = []
    with httpx.Client(base_url=edge.worker_url(WORKER), timeout=10) as http:
        flag = min(_resolved_flags(http, secret))
        for number in range(2 * rounds):
            is_set = number % 2 == 0
            how = ["--off", "--why", "bench"] if is_set else ["--clear"]
            edge.take_requests()
            began = time.perf_counter()
            with subprocess.Popen(
                [COMMAND, "override", flag, *how],
                env=shell.environ | settings,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                while _is_overridden(http, secret, flag) != is_set:
                    assert process.poll() in {None, 0}
                    time.sleep(POLL_S)
                to_answer.append(time.perf_counter() - began)
            assert process.returncode == 0
            calls = _api_calls(edge)
    note = f"{min(to_answer):.2f} to {max(to_answer):.2f}"
    yield Figure(f"{name}, to new answer", median(to_answer), "s", at_most=2, note=note)
    yield Figure(f"{name}, API calls", calls, "")


def _api_calls(edge: LocalEdge) -> int:
    """Calls of Cloudflare's API since the requests were taken last."""
    return sum(call["path"].startswith("/client/") for call in edge.take_requests())


def _is_overridden(http: httpx.Client, secret: str, flag: str) -> bool:
    body = {"clientSecret": secret, "flags": [flag], "evaluationContext": {"visitor_id": "v"}, "apply": True}
    [answer] = http.post("/v1/flags:resolve", json=body).raise_for_status().json()["resolvedFlags"]
    return str(answer.get("assignmentOrigin", "")).endswith("/rules/override")


def _resolved_flags(http: httpx.Client, secret: str) -> set[str]:
    """The names of the flags; no two states have one in common."""
    body = {"clientSecret": secret, "evaluationContext": {"visitor_id": "v"}, "apply": True}
    answer = http.post("/v1/flags:resolve", json=body).raise_for_status()
    return {flag["flag"] for flag in answer.json()["resolvedFlags"]}


def show_large(shell: Shell, edge: LocalEdge, draw: random.Random, folder: Path) -> Iterator[Figure]:
    """As `build` compiles it, and as a run fetches, checks and compiles it without deploying."""
    secret = word(draw)
    encoded = large_state(draw, secret)
    file = folder / "large.pb"
    file.write_bytes(encoded)
    build = ["build", "--state", str(file), "--out", str(folder / "large")]
    note = f"{len(encoded) / 1e6:.1f} MB, {LARGE_FLAGS} flags"
    yield Figure("large state, build", shell.time_s(COMMAND, *build), "s", at_most=10, note=note)
    yield Figure("large state, build, peak memory", shell.peak_mb(_SYNC_JOB, *build), "MB", at_most=1000)
    edge.publish_state(secret, encoded)
    settings = operator_environ(edge, secret) | {"NO_DEPLOY": "1", "WORKER_NAME_PREFIX": "large"}
    note = "NO_DEPLOY=1: fetched, checked, compiled"
    yield Figure("large state, run", shell.time_s(COMMAND, "run", **settings), "s", at_most=10, note=note)
    peak_mb = shell.peak_mb(_SYNC_JOB, "run", **settings)
    yield Figure("large state, run, peak memory", peak_mb, "MB", at_most=1000)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure runs of sync_job, time and memory.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, help="for the states (default: another one each time)")
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory, LocalEdge(dir=Path(directory, "edge"), grace_s=0.2) as edge:
        secret = word(draw)
        edge.publish_state(secret, small_state(draw, secret))
        shell = Shell(operator_environ(edge, secret) | {"LEASE": str(Path(directory, "lease"))})
        shell.time_s(COMMAND, "run")
        print(f"sync_job on {describe_machine()}")
        proving = Shell(shell.environ | {"PROBE_URL": edge.worker_url(WORKER)})
        for figures in (
            show_unchanged(shell, edge, options.rounds),
            show_changed("changed run", proving, edge, draw, rounds=options.rounds),
            show_changed("changed run, unproved", shell, edge, draw, rounds=options.rounds),
            show_override("override", proving, edge, options.rounds),
            show_override("override, unproved", shell, edge, options.rounds),
            show_large(shell, edge, draw, Path(directory)),
        ):
            for figure in figures:
                print(figure, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
