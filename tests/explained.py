"""Evaluations of a flag "a", and what is told of them. Its rules are on segment "s", for the unit at `v`."""

from __future__ import annotations

from typing import Any

from builders import flag, rule, split, state, variant
from segments import segment

from flagedge.wire.state_pb2 import Criterion, Flag, ResolverState
from sync_job.compile import compile_plan
from sync_job.decode import DecodedState
from sync_job.evaluate import evaluate
from sync_job.evaluation import Evaluation
from sync_job.explain import explain
from sync_job.materializations import Materializations
from sync_job.plan import load_plan

ACCOUNT = "test-account"


def decide(built: ResolverState, context: dict[str, Any], known: Materializations | None = None) -> Evaluation:
    compiled = compile_plan(DecodedState(ACCOUNT, built), etag='"e"')
    plan = load_plan(compiled.text, compiled.bits)
    return evaluate(plan, "a", context, credential=plan.credentials[0], materializations=known)


def told(*rules: Flag.Rule, known: Materializations | None = None, context: dict[str, Any], **parts: Any) -> list[str]:
    """The lines about a flag "a" with these rules and variants x and y."""
    built = state(flag("a", *rules, variants=[variant("x"), variant("y")]), **parts)
    return explain(decide(built, context, known)).splitlines()


def by(*criteria: Criterion, **parts: Any) -> dict[str, Any]:
    return {"segments": [segment("s", *criteria)], **parts}


def ruled(**options: Any) -> Flag.Rule:
    """A rule on segment "s" for the unit at `v`."""
    return rule(**{"segment": "s", "selector": "v", "assignments": split(x=100)} | options)
