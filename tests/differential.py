"""Our Worker held against the official resolver: the same states, the same requests, every answer compared.

`python -m differential --minutes 10` (through `make fuzz-resolve`) runs seeds until the time is over and prints the
first difference as a case that can be replayed with `--seed`.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from generator import random_case
from oracle import Oracle, OracleError, OracleTrap, Suspended
from workerd import TestWorker, run_test_worker

from flagedge.wire import state_pb2


@dataclass(slots=True)
class Tally:
    """What a run compared: requests, flags by reason, requests that the official resolver refused."""

    requests: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def flags(self) -> int:
        return self.reasons.total()


REQUESTS_PER_STATE = 16
STICKY_EVERY = 4


class DifferenceError(AssertionError):
    """The two resolvers disagree; the message holds the request and both answers."""


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
            wishes = _wishes(oracle, request, names)
        except OracleError:
            continue
        records = [
            (unit, name, rule or "some-rule", draw.choice(variants))
            for unit, name, rule, _ in wishes
            if draw.random() < 0.7
        ]
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


def _wishes(oracle: Oracle, request: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """What the official resolver would read, flag by flag, as an internal error of one hides the others' wishes."""
    wishes: list[Any] = []
    for name in names:
        try:
            answer = oracle.resolve(dict(request) | {"flags": [name]}, mode="discovery")
        except OracleError as error:
            if "client secret" in str(error):
                raise
            continue
        wishes += answer.reads if isinstance(answer, Suspended) else []
    return sorted(set(wishes))


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
        flags |= _flags(resolved)
        writes += resolved.writes
    return flags, writes


def without_empty_writes(payload: bytes) -> bytes:
    """The state as it means the same to both: a sticky rule that neither reads nor names what it writes is plain.

    Upstream writes a record with an empty name for it; we write nothing (docs/parity.md).
    """
    envelope = state_pb2.ClientResolverState.FromString(payload)
    resolver_state = state_pb2.ResolverState.FromString(envelope.state)
    for flag in resolver_state.flags:
        for rule in flag.rules:
            spec = rule.materialization_spec
            if not spec.read_materialization and not spec.write_materialization:
                rule.ClearField("materialization_spec")
    envelope.state = resolver_state.SerializeToString()
    return envelope.SerializeToString()


def _resolve_with_oracle(
    oracle: Oracle, request: Mapping[str, Any], names: Sequence[str], tally: Tally
) -> dict[str, Any] | None:
    """The official answer; None when the request as a whole is refused.

    Where one flag's internal error fails the whole request upstream, each flag is asked for alone and the failing
    ones are expected to err alone (a documented deviation).
    """
    try:
        return _flags(oracle.resolve(request))
    except OracleError as error:
        if "client secret not found" in str(error):
            tally.refused["unknown client secret"] += 1
            return None
        tally.refused["internal error" if not isinstance(error, OracleTrap) else "trap"] += 1
    flags: dict[str, Any] = {}
    wanted = request.get("flags") or names
    for name in [name for name in names if name in wanted]:
        try:
            flags |= _flags(oracle.resolve(dict(request) | {"flags": [name]}))
        except OracleError:
            flags[name] = {"flag": name, "reason": "RESOLVE_REASON_ERROR"}
    return flags


def _flags(resolved: Any) -> dict[str, Any]:
    if isinstance(resolved, Suspended):
        raise DifferenceError("the official resolver suspended although materializations are not supported")
    flags: dict[str, Any] = resolved.flags
    return flags


def run_seeds(worker: TestWorker, seeds: Any, tally: Tally, *, until: float | None = None) -> None:
    """Compare the cases of many seeds; a difference names its seed."""
    for seed in seeds:
        payload, requests = random_case(random.Random(seed), requests=REQUESTS_PER_STATE)
        try:
            compare_case(worker, payload, requests, tally)
            if seed % STICKY_EVERY == 0:
                compare_sticky_case(worker, payload, requests[:4], tally, random.Random(seed))
        except DifferenceError as error:
            raise DifferenceError(f"seed {seed}\n{error}") from error
        if until is not None and time.monotonic() > until:
            return


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the Worker against the official resolver.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None, help="where to begin (default: from the clock)")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else time.time_ns()
    tally = Tally()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with run_test_worker() as worker:
        try:
            run_seeds(worker, range(first, sys.maxsize), tally, until=time.monotonic() + 60 * options.minutes)
        finally:
            print(f"{tally.requests} requests, {tally.flags} flags compared: {dict(tally.reasons.most_common())}")
            print(f"refused upstream as a whole: {dict(tally.refused.most_common(8))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
