"""Our evaluator held against the official resolver: answers, assignments as tokens hold them, records, wishes."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from differences import DifferenceError, Tally, flags_of, make_records, wishes_of, without_empty_writes
from oracle import Materialization, Mode, Oracle, OracleError, Suspended

from flagedge.errors import FlagedgeError
from flagedge.settings import Secret
from flagedge.wire import state_pb2, token_pb2
from flagedge.wire.types_pb2 import ResolveReason
from sync_job.compile import compile_plan
from sync_job.decode import decode_state
from sync_job.evaluate import evaluate_flags
from sync_job.evaluation import Evaluation
from sync_job.explain import explain
from sync_job.materializations import Materializations, Record
from sync_job.plan import load_plan
from sync_job.values import read_context


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided for a request: flags as the API shows them, assignments as a token holds them, records."""

    flags: Mapping[str, Any]
    assigned: Mapping[str, token_pb2.AssignedFlag]
    writes: Sequence[Materialization]


def compare_evaluated_case(
    payload: bytes, requests: Sequence[dict[str, Any]], tally: Tally, draw: random.Random | None = None
) -> None:
    """Evaluate every request and resolve it with the official resolver; with `draw` also with sticky assignments.

    Records are made up as in `compare_sticky_case`. Raises DifferenceError for the first difference.
    """
    pair = EvaluatedPair(payload, tally)
    try:
        pair.oracle.load()
    except OracleError as error:
        tally.refused[f"state: {error}"[:60]] += 1
        return
    for request in requests:
        pair.compare(request)
        if draw is not None:
            pair.compare_sticky(request, draw)


class EvaluatedPair:
    """A state in the hands of our evaluator and of the official resolver. Comparing raises DifferenceError."""

    def __init__(self, payload: bytes, tally: Tally) -> None:
        self.oracle = Oracle(without_empty_writes(payload))
        compiled = compile_plan(decode_state(payload), etag='"test"')
        self._plan = load_plan(compiled.text, compiled.bits)
        self._flags = state_pb2.ResolverState.FromString(self.oracle.state).flags
        self._tally = tally

    def compare(self, request: Mapping[str, Any], records: Sequence[Materialization] | None = None) -> None:
        """Compare answers, assignments and written records. Without `records` no sticky assignments are bound."""
        tally = self._tally
        tally.requests += 1
        known = None if records is None else Materializations([Record(*record) for record in records])
        # Whether notes are kept must not matter; where they are, they can be told.
        is_traced = tally.requests % 2 == 0
        evaluations = self._evaluate(request, known, is_traced=is_traced)
        ours = None if evaluations is None else _decided(evaluations)
        theirs = self._decide_with_oracle(request, "without" if records is None else "static", records or ())
        if ours != theirs:
            told = f"evaluated {json.dumps(request)}\nrecords {records}"
            raise DifferenceError(f"{told}\n  ours   {ours}\n  theirs {theirs}")
        for evaluation in evaluations or ():
            tally.reasons[evaluation.reason] += 1
            if is_traced and not (explain(evaluation) and json.dumps(evaluation.to_json(), allow_nan=False)):
                raise DifferenceError("an evaluation cannot be told")

    def compare_sticky(self, request: Mapping[str, Any], draw: random.Random) -> None:
        """Compare what is wished for, and the decisions with records made up for most of it."""
        names = [flag.name for flag in self._flags]
        variants = [variant.name for flag in self._flags for variant in flag.variants] + ["", "gone"]
        try:
            wishes = wishes_of(self.oracle, request, names)
        except OracleError:
            return
        self.compare_wishes(request)
        self.compare(request, make_records(wishes, variants, draw))

    def compare_wishes(self, request: Mapping[str, Any]) -> None:
        """Where the official resolver waits for records, nothing is decided, and the same records are wished for."""
        for evaluation in self._evaluate(request, Materializations(state="partial"), is_traced=False) or ():
            try:
                answer = self.oracle.resolve(dict(request) | {"flags": [evaluation.flag]}, mode="discovery")
            except OracleError:
                continue
            wishes = {(wish.unit, wish.materialization, wish.rule, "") for wish in evaluation.wishes}
            if isinstance(answer, Suspended) and wishes != set(answer.reads):
                told = f"wishes of {json.dumps(request)}"
                raise DifferenceError(f"{told}\n  ours   {wishes}\n  theirs {answer.reads}")

    def _evaluate(
        self, request: Mapping[str, Any], known: Materializations | None, *, is_traced: bool
    ) -> list[Evaluation] | None:
        """The evaluations of a request; None for one of an unknown client secret."""
        try:
            credential = self._plan.find_credential(secret=Secret(request["clientSecret"]))
        except FlagedgeError:
            return None
        context = read_context(json.dumps(request.get("evaluationContext", {})))
        names = request["flags"]
        return evaluate_flags(
            self._plan, context, credential=credential, flags=names, materializations=known, is_traced=is_traced
        )

    def _decide_with_oracle(
        self, request: Mapping[str, Any], mode: Mode, records: Sequence[Materialization]
    ) -> Decided | None:
        """The official decisions, flag by flag: internal errors stay with their flag. None for a refused request."""
        flags: dict[str, Any] = {}
        assigned: dict[str, token_pb2.AssignedFlag] = {}
        writes: list[Materialization] = []
        for name in [flag.name for flag in self._flags if not request["flags"] or flag.name in request["flags"]]:
            asked = dict(request) | {"flags": [name], "apply": False}
            try:
                resolved = self.oracle.resolve(asked, mode=mode, records=records)
            except OracleError as error:
                if "client secret not found" in str(error):
                    self._tally.refused["unknown client secret"] += 1
                    return None
                self._tally.refused["internal error"] += 1
                flags[name] = {"flag": name, "reason": "RESOLVE_REASON_ERROR"}
                continue
            flags |= flags_of(resolved)
            assigned |= token_pb2.ResolveToken.FromString(resolved.resolve_token).token_v1.assignments
            writes += [write for write in resolved.writes if write[1]]
        return Decided(flags, assigned, sorted(writes))


def _decided(evaluations: Sequence[Evaluation]) -> Decided:
    return Decided(
        {each.flag: each.answer() for each in evaluations},
        {each.flag: _assigned(each) for each in evaluations if each.should_apply},
        sorted((one.unit, one.materialization, one.rule, one.variant) for each in evaluations for one in each.writes),
    )


def _assigned(evaluation: Evaluation) -> token_pb2.AssignedFlag:
    return token_pb2.AssignedFlag(
        flag=evaluation.flag,
        targeting_key=evaluation.unit,
        segment=evaluation.segment,
        variant=evaluation.variant,
        rule=evaluation.rule,
        reason=ResolveReason.Value(f"RESOLVE_REASON_{evaluation.reason}"),
        assignment_id=evaluation.assignment_id,
        fallthrough_assignments=[
            {
                "rule": each.rule,
                "assignment_id": each.assignment_id,
                "targeting_key": each.unit,
                "targeting_key_selector": each.selector,
            }
            for each in evaluation.fallthroughs
        ],
        targeting_key_selector=evaluation.selector,
    )
