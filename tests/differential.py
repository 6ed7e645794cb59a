"""Our Worker and our evaluator held against the official resolver: the same states and requests, all answers compared.

`python -m differential --minutes 10` (through `make fuzz-resolve`) runs seeds until the time is over and prints the
first difference as a case that can be replayed with `--seed`. `--ours` leaves one of the two out.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from differences import DifferenceError, Tally, flags_of, make_records, wishes_of, without_empty_writes
from evaluated import compare_evaluated_case
from generator import random_case
from oracle import Oracle, OracleError, OracleTrap
from workerd import TestWorker, run_test_worker

from flagedge.wire import state_pb2

REQUESTS_PER_STATE = 16
STICKY_EVERY = 4


def compare_case(worker: TestWorker, payload: bytes, requests: Sequence[dict[str, Any]], tally: Tally) -> None:
    """Resolve every request with both. Raises DifferenceError for the first difference."""
    oracle = Oracle(without_empty_writes(payload))
    try:
        oracle.load()
    except OracleError as error:
        tally.refused[f"state: {error}"[:60]] += 1
        return
    names = [flag.name for flag in state_pb2.ResolverState.FromString(oracle.state).flags]
    batch = worker.resolve(payload, requests, env={"flag_logs_queue": None})
    for request, answer in zip(requests, batch.answers, strict=True):
        tally.requests += 1
        ours = {flag["flag"]: flag for flag in answer.json.get("resolvedFlags", [])}
        theirs = _resolve_with_oracle(oracle, request, names, tally)
        if theirs is None:
            if answer.status == 200:
                raise DifferenceError(f"refused by the official resolver alone: {json.dumps(request)}: {answer.text}")
            continue
        if answer.status != 200 or ours != theirs:
            differing = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
            raise DifferenceError(
                f"request {json.dumps(request)}\n"
                + "\n".join(f"{name}\n  ours   {ours.get(name)}\n  theirs {theirs.get(name)}" for name in differing)
                + ("" if answer.status == 200 else f"\nstatus {answer.status}: {answer.text}")
            )
        tally.reasons.update(flag["reason"].removeprefix("RESOLVE_REASON_") for flag in theirs.values())


def compare_sticky_case(
    worker: TestWorker, payload: bytes, requests: Sequence[dict[str, Any]], tally: Tally, draw: random.Random
) -> None:
    """The same with sticky assignments: records are made up for what the official resolver asks for.

    Held against its answer to given records ("static"), as its own suspending and resuming has known defects. Answers
    and written records are compared. Raises DifferenceError.
    """
    oracle = Oracle(without_empty_writes(payload))
    resolver_state = state_pb2.ResolverState.FromString(oracle.state)
    names = [flag.name for flag in resolver_state.flags]
    variants = [variant.name for flag in resolver_state.flags for variant in flag.variants] + ["", "gone"]
    for request in requests:
        try:
            wishes = wishes_of(oracle, request, names)
        except OracleError:
            continue
        records = make_records(wishes, variants, draw)
        before = {kv_key(unit, name, rule): variant for unit, name, rule, variant in records}
        env = {"flag_logs_queue": None}
        batch = worker.resolve(payload, [request], env=env, kv={"records": dict(before)})
        theirs, writes = _resolve_static(oracle, request, names, records, tally)
        ours = {flag["flag"]: flag for flag in batch.answers[0].json.get("resolvedFlags", [])}
        written = {key: variant for key, variant in batch.records.items() if before.get(key) != variant}
        due = {kv_key(unit, name, rule): variant for unit, name, rule, variant in writes if name}
        due = {key: variant for key, variant in due.items() if before.get(key) != variant}
        if ours != theirs or written != due:
            raise DifferenceError(
                f"sticky request {json.dumps(request)}\nrecords {records}\n  ours   {ours}\n  theirs {theirs}\n"
                f"written\n  ours   {written}\n  theirs {due}"
            )
        tally.requests += 1
        tally.reasons.update(flag["reason"].removeprefix("RESOLVE_REASON_") for flag in theirs.values())


def kv_key(unit: str, materialization: str, rule: str) -> str:
    """Upstream's KV key of a record."""
    parts = (part.replace("%", "%25").replace(":", "%3A") for part in (unit, materialization, rule))
    return "mat:" + ":".join(parts)


def _resolve_static(
    oracle: Oracle, request: Mapping[str, Any], names: Sequence[str], records: Sequence[Any], tally: Tally
) -> tuple[dict[str, Any], list[Any]]:
    """Flags and writes by the official resolver, flag by flag: internal errors stay with their flag."""
    flags: dict[str, Any] = {}
    writes: list[Any] = []
    wanted = request.get("flags") or names
    for name in [name for name in names if name in wanted]:
        try:
            resolved = oracle.resolve(dict(request) | {"flags": [name]}, mode="static", records=records)
        except OracleError:
            tally.refused["internal error"] += 1
            flags[name] = {"flag": name, "reason": "RESOLVE_REASON_ERROR"}
            continue
        flags |= flags_of(resolved)
        writes += resolved.writes
    return flags, writes


def _resolve_with_oracle(
    oracle: Oracle, request: Mapping[str, Any], names: Sequence[str], tally: Tally
) -> dict[str, Any] | None:
    """The official answer; None when the request as a whole is refused.

    Where one flag's internal error fails the whole request upstream, each flag is asked for alone and the failing
    ones are expected to err alone (a documented deviation).
    """
    try:
        return flags_of(oracle.resolve(request))
    except OracleError as error:
        if "client secret not found" in str(error):
            tally.refused["unknown client secret"] += 1
            return None
        tally.refused["internal error" if not isinstance(error, OracleTrap) else "trap"] += 1
    flags: dict[str, Any] = {}
    wanted = request.get("flags") or names
    for name in [name for name in names if name in wanted]:
        try:
            flags |= flags_of(oracle.resolve(dict(request) | {"flags": [name]}))
        except OracleError:
            flags[name] = {"flag": name, "reason": "RESOLVE_REASON_ERROR"}
    return flags


# --- runs -------------------------------------------------------------------------------------------------------------

Compare = Callable[[int, bytes, list[dict[str, Any]]], None]


def run_seeds(worker: TestWorker, seeds: Iterable[int], tally: Tally, *, until: float | None = None) -> None:
    """Hold the Worker against the official resolver on the cases of many seeds; a difference names its seed."""
    _run(seeds, [_worker_comparison(worker, tally)], until)


def evaluate_seeds(seeds: Iterable[int], tally: Tally, *, until: float | None = None) -> None:
    """The same with the evaluator."""
    _run(seeds, [_evaluator_comparison(tally)], until)


def _worker_comparison(worker: TestWorker, tally: Tally) -> Compare:
    def compare(seed: int, payload: bytes, requests: list[dict[str, Any]]) -> None:
        compare_case(worker, payload, requests, tally)
        if seed % STICKY_EVERY == 0:
            compare_sticky_case(worker, payload, requests[:4], tally, random.Random(seed))

    return compare


def _evaluator_comparison(tally: Tally) -> Compare:
    def compare(seed: int, payload: bytes, requests: list[dict[str, Any]]) -> None:
        draw = random.Random(seed) if seed % STICKY_EVERY == 0 else None
        compare_evaluated_case(payload, requests, tally, draw)

    return compare


def _run(seeds: Iterable[int], comparisons: Sequence[Compare], until: float | None) -> None:
    for seed in seeds:
        payload, requests = random_case(random.Random(seed), requests=REQUESTS_PER_STATE)
        try:
            for compare in comparisons:
                compare(seed, payload, requests)
        except DifferenceError as error:
            raise DifferenceError(f"seed {seed}\n{error}") from error
        if until is not None and time.monotonic() > until:
            return


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the Worker and the evaluator against the official resolver.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None, help="where to begin (default: from the clock)")
    parser.add_argument("--ours", choices=["both", "worker", "evaluator"], default="both", help="what is compared")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else time.time_ns()
    tallies = {name: Tally() for name in ("worker", "evaluator") if options.ours in {name, "both"}}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with ExitStack() as stack:
        comparisons = []
        if "worker" in tallies:
            comparisons.append(_worker_comparison(stack.enter_context(run_test_worker()), tallies["worker"]))
        if "evaluator" in tallies:
            comparisons.append(_evaluator_comparison(tallies["evaluator"]))
        try:
            _run(range(first, sys.maxsize), comparisons, time.monotonic() + 60 * options.minutes)
        finally:
            for name, tally in tallies.items():
                reasons = dict(tally.reasons.most_common())
                print(f"{name}: {tally.requests} requests, {tally.flags} flags compared: {reasons}")
                print(f"  refused upstream as a whole: {dict(tally.refused.most_common(8))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
