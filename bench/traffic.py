"""Figures 3 and 4: the Worker as it is deployed, over HTTP and from the process's start, beside its floor."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from oracle import Oracle

from bench.client import Client, Exchange
from bench.rows import expand, find_problems
from bench.serve import Server, build_floor, serve
from bench.sink import Sink, run_sink
from bench.states import BenchState

CONNECTIONS = 8
REQUESTS_PER_ROUND = 600
WARM_UP_ROUNDS = 2
COMPARED = 100
SAMPLE_COUNT = 201
STARTS = 10
FLOORS_DIFFER_US = 1.0
RUNS_MAX = 2
SINK_POLL_S = 0.1
LOGS_PATIENCE_S = 10.0
FLOORS = ("floor", "floor again")
Draw = random.Random


@dataclass(slots=True)
class Http:
    """What a run found, by subject and round."""

    cpu_micros: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    request_count: int = 0
    message_count: int = 0
    message_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    compared: int = 0
    differences: int = 0

    def cpu(self, subject: str) -> float:
        return median(self.cpu_micros[subject])

    def rate(self, subject: str) -> float:
        return median(self.rates[subject])

    @property
    def floors(self) -> list[float]:
        """The mean of the two floors of each round."""
        return [(floor + again) / 2 for floor, again in self._pairs(*FLOORS)]

    @property
    def floor_share(self) -> float:
        """What the floor takes of what the Worker without a queue takes."""
        return median(floor / ours for floor, ours in zip(self.floors, self.cpu_micros["ours"], strict=True))

    @property
    def log_delivery(self) -> float:
        """Microseconds of CPU per request that the queue adds."""
        return median(with_queue - without for with_queue, without in self._pairs("ours, queue", "ours"))

    @property
    def floors_differ(self) -> float:
        return abs(median(floor - again for floor, again in self._pairs(*FLOORS)))

    def _pairs(self, left: str, right: str) -> list[tuple[float, float]]:
        return list(zip(self.cpu_micros[left], self.cpu_micros[right], strict=True))


class _Subject:
    """A server, its client, and the queue behind it if it has one."""

    def __init__(self, server: Server, client: Client, sink: Sink | None) -> None:
        self.server = server
        self.client = client
        self.sink = sink


def measure_http(worker: Path, floor: Path, state: BenchState, draw: Draw, rounds: int) -> Http:
    """A run, or a second one with new processes when its two floors disagree: the better one."""
    runs: list[Http] = []
    while len(runs) < RUNS_MAX and all(run.floors_differ > FLOORS_DIFFER_US for run in runs):
        runs.append(_run(worker, floor, state, draw, rounds))
    return min(runs, key=lambda run: run.floors_differ)


def _run(worker: Path, floor: Path, state: BenchState, draw: Draw, rounds: int) -> Http:
    """Send the same number of requests to each server in every round, in random order."""
    found = Http()
    with ExitStack() as stack:
        sink = stack.enter_context(run_sink())
        subjects = {}
        for name in (*FLOORS, "ours", "ours, queue"):
            queue = sink if name == "ours, queue" else None
            directory = floor if name in FLOORS else worker
            server = stack.enter_context(serve(directory, queue_port=queue.port if queue else None))
            client = stack.enter_context(Client(server.port, CONNECTIONS))
            subjects[name] = _Subject(server, client, queue)
            found.cpu_micros[name], found.rates[name] = [], []
        _compare(subjects["ours"], state, draw, found)
        for number in range(-WARM_UP_ROUNDS, rounds):
            for name in draw.sample(sorted(subjects), len(subjects)):
                cpu_micros, rate = _run_round(subjects[name], state, draw, found)
                if number >= 0:
                    found.cpu_micros[name].append(cpu_micros)
                    found.rates[name].append(rate)
    return found


def _compare(subject: _Subject, state: BenchState, draw: Draw, found: Http) -> None:
    """Compare answers with the official resolver's."""
    oracle = Oracle(state.payload)
    bodies = [body for _, body in state.requests(draw, COMPARED)]
    for body, exchange in zip(bodies, subject.client.resolve(bodies), strict=True):
        answer = {flag["flag"]: flag for flag in json.loads(exchange.body)["resolvedFlags"]}
        found.compared += 1
        found.differences += answer != oracle.resolve_flags(json.loads(body))


def _run_round(subject: _Subject, state: BenchState, draw: Draw, found: Http) -> tuple[float, float]:
    """CPU in microseconds per request, the sending of logs included, and requests per second."""
    units, bodies = zip(*state.requests(draw, REQUESTS_PER_ROUND), strict=True)
    cpu_before, began = subject.server.cpu_s(), time.perf_counter()
    exchanges = subject.client.resolve(bodies)
    took = time.perf_counter() - began
    messages = _take_messages(subject.sink, exchanges) if subject.sink else []
    cpu_micros = (subject.server.cpu_s() - cpu_before) * 1e6 / len(bodies)
    if subject.sink:
        found.request_count += len(bodies)
        found.message_count += len(messages)
        found.message_bytes += sum(map(len, messages))
        found.problems += find_problems(exchanges, units, messages)
    return cpu_micros, len(bodies) / took


def _take_messages(sink: Sink, exchanges: Sequence[Exchange]) -> list[str]:
    """The messages of all these requests; the last of them comes a linger after the last request."""
    expected = sum(b'"shouldApply":true' in exchange.body for exchange in exchanges)
    messages: list[str] = []
    patience_until = time.monotonic() + LOGS_PATIENCE_S
    while len(expand(messages)) < expected and time.monotonic() < patience_until:
        time.sleep(SINK_POLL_S)
        messages += sink.take()
    return messages


@dataclass(frozen=True, slots=True)
class Start:
    """What a process took until its first answer, and what it held then."""

    answer_ms: float
    cpu_ms: float
    rss_mb: float


def measure_starts(
    workers: Sequence[Path], floor: Path, request: Callable[[], str], count: int = STARTS
) -> list[Start]:
    """Start all of them `count` times, in turns: what each takes above the floor, the median of the differences."""
    differences: list[list[Start]] = [[] for _ in workers]
    for _ in range(count):
        base = _start(floor, request())
        for worker, into in zip(workers, differences, strict=True):
            start = _start(worker, request())
            into.append(Start(start.answer_ms - base.answer_ms, start.cpu_ms - base.cpu_ms, start.rss_mb - base.rss_mb))
    return [
        Start(
            median(start.answer_ms for start in starts),
            median(start.cpu_ms for start in starts),
            median(start.rss_mb for start in starts),
        )
        for starts in differences
    ]


def _start(directory: Path, body: str) -> Start:
    with serve(directory) as server, Client(server.port, 1) as client:
        client.resolve([body])
        took = time.perf_counter() - server.started_at
        return Start(took * 1000, server.cpu_s() * 1000, server.rss_bytes() / 1e6)


def make_floor(worker: Path, state: BenchState, draw: Draw) -> Path:
    """The floor of a Worker, which answers what the Worker did, of the middling length."""
    with serve(worker) as server, Client(server.port, 1) as client:
        exchanges = client.resolve([body for _, body in state.requests(draw, SAMPLE_COUNT)])
    return build_floor(worker, sorted(exchanges, key=lambda exchange: len(exchange.body))[SAMPLE_COUNT // 2])


@dataclass(frozen=True, slots=True)
class UploadSize:
    raw: int
    packed: int


def measure_upload(worker: Path, *, bitsets: bool) -> UploadSize:
    """Bytes of the modules, as they are and each packed by gzip."""
    names = [path for path in worker.iterdir() if path.name != "metadata.json"]
    modules = [path.read_bytes() for path in names if bitsets or path.suffix != ".bin"]
    return UploadSize(sum(map(len, modules)), sum(len(gzip.compress(module, 9, mtime=0)) for module in modules))
