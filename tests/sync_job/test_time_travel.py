"""States deployed one after another, their exposures in DuckDB, and every one of these explained by its own state.

TIME_TRAVEL=full deploys 50 states and asks about 1,000 rows; the default is a smaller journey of the same kind.
"""

from __future__ import annotations

import functools
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import shop
from sync_site import COMMAND, Site

from flagedge.wire.state_pb2 import ClientResolverState, Flag, ResolverState
from local_edge.server import LocalEdge
from sync_job.archive import load_state
from sync_job.compile import compile_plan
from sync_job.evaluate import evaluate
from sync_job.evaluation import Evaluation
from sync_job.plan import EvaluablePlan, load_plan
from sync_job.settings import read_sync_settings
from sync_job.workers_api import open_api

IS_FULL = os.environ.get("TIME_TRAVEL") == "full"
STATE_COUNT, ROW_COUNT = (50, 1000) if IS_FULL else (8, 300)
VISITORS_PER_STATE = 30
CONSUMER = COMMAND.parent / "log-consumer"
Row = dict[str, Any]


def vary(draw: random.Random) -> bytes:
    """The shop with other shares in all its experiments, live chat launched or not."""
    envelope = ClientResolverState.FromString(draw.choice([shop.shop_payload(), shop.changed_shop_payload()]))
    state = ResolverState.FromString(envelope.state)
    for flag in state.flags:
        for rule in flag.rules:
            _cut_anew(draw, rule.assignment_spec)
    envelope.state = state.SerializeToString()
    return envelope.SerializeToString()


def _cut_anew(draw: random.Random, spec: Flag.AssignmentSpec) -> None:
    cuts = sorted(draw.sample(range(1, spec.bucket_count), len(spec.assignments) - 1))
    for assignment, low, high in zip(spec.assignments, [0, *cuts], [*cuts, spec.bucket_count], strict=True):
        del assignment.bucket_ranges[:]
        assignment.bucket_ranges.add(lower=low, upper=high)


class Journey:
    """A Worker through all its states, and who came by when."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self._environ = site.environ | {
            "PATH": os.environ["PATH"], "HOME": str(folder), "DATABASE": str(folder / "exposures.duckdb"),
            "FORCE_APPLY": "true",
        }  # fmt: skip
        self.visitors: dict[str, dict[str, Any]] = {}
        self.etags: list[str] = []

    def visit(self, state: bytes, number: int) -> None:
        """Deploy a state, and resolve for visitors that nobody has seen before."""
        self.site.publish(state)
        result = self.site.run(FORCE_APPLY="true")
        assert result.outcome == "deployed"
        self.etags.append(result.etag)
        with httpx.Client(base_url=self.site.url, timeout=20) as http:
            for context in shop.visitors(VISITORS_PER_STATE, seed=number):
                self.visitors[context["visitor_id"]] = context
                body = {"clientSecret": shop.WEB_SECRET, "evaluationContext": context, "apply": True}
                http.post("/v1/flags:resolve", json=body).raise_for_status()

    def drain(self) -> list[Row]:
        """Every exposure, from the queue by way of DuckDB."""
        self._command(CONSUMER, "drain")
        query = "select flag, rule, variant, assignment_id, targeting_key, state_etag from exposures"
        rows: list[Row] = json.loads(self._command(CONSUMER, "sql", "--format", "json", query))
        return rows

    @functools.cached_property
    def _plans(self) -> dict[str, tuple[EvaluablePlan, str]]:
        return {}

    def explain(self, row: Row, etag: str) -> Evaluation:
        """Why the row's visitor gets what they get by a state of the archive."""
        if etag not in self._plans:
            settings = read_sync_settings(self.site.environ)
            with open_api(settings) as api:
                archived = load_state(settings, api, etag)
            compiled = compile_plan(archived.decoded, etag=archived.etag)
            plan = load_plan(compiled.text, compiled.bits)
            self._plans[etag] = plan, plan.find_credential(secret=settings.client_secret).name
        plan, credential = self._plans[etag]
        context = self.visitors[row["targeting_key"]]
        return evaluate(plan, row["flag"], context, credential=plan.find_credential(name=credential))

    def explain_by_command(self, row: Row) -> dict[str, Any]:
        context = json.dumps(self.visitors[row["targeting_key"]])
        asked = ("--flag", row["flag"], "--context", context, "--etag", row["state_etag"], "--json")
        found: dict[str, Any] = json.loads(self._command(COMMAND, "explain", *asked))
        return found

    def _command(self, *command: str | Path) -> str:
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def answer(evaluation: Evaluation) -> tuple[str, str, str]:
    return evaluation.rule, evaluation.assignment_id, evaluation.variant


@pytest.mark.timeout(600)
def test_every_exposure_is_explained_by_the_state_of_its_time(tmp_path: Path) -> None:
    """The archived state that a row names gives the row's rule, assignment and variant; others often do not."""
    draw = random.Random(20)
    with LocalEdge(dir=tmp_path / "edge", grace_s=0.3) as edge:
        journey = Journey(Site(edge, tmp_path), tmp_path)
        for number in range(STATE_COUNT):
            journey.visit(vary(draw), number)
        rows = journey.drain()
        assert {row["state_etag"] for row in rows} == set(journey.etags)
        asked = draw.sample(rows, min(ROW_COUNT, len(rows)))
        wrong = [
            (row, found)
            for row in asked
            if (found := answer(journey.explain(row, row["state_etag"])))
            != (row["rule"], row["assignment_id"], row["variant"])
        ]
        assert not wrong, wrong[:3]
        strange = sum(journey.explain(row, draw.choice(journey.etags)).variant != row["variant"] for row in asked)
        assert strange > len(asked) / 20
        for row in asked[:2]:
            found = journey.explain_by_command(row)
            assert (found["variant"], found["etag"]) == (row["variant"], row["state_etag"])
    assert len(asked) >= ROW_COUNT
