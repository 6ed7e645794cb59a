"""The diagram as a test: CDN state → sync_job → worker → queue → log_consumer → SQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import shop
from operators import operator_environ
from oracle import Oracle

from local_edge.server import LocalEdge

COMMANDS = Path(sys.executable).parent
WORKER = "confidence-cloudflare-resolver"
DEMO_SECRET = "mkjJruAATQWjeY7foFIWfVAcBWnci2YF"


class System:
    """An operator's shell, with an account on loopback behind it."""

    def __init__(self, edge: LocalEdge, folder: Path, secret: str) -> None:
        self.edge = edge
        self.secret = secret
        self._environ = {
            "PATH": os.environ["PATH"],
            "DATABASE": str(folder / "exposures.duckdb"),
        } | operator_environ(edge, secret)

    def run(self, name: str, *arguments: str) -> Any:
        """A command's JSON."""
        done = subprocess.run(
            [COMMANDS / name, *arguments], env=self._environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def sql(self, query: str) -> Any:
        return self.run("log-consumer", "sql", "--format", "json", query)

    def resolve(self, contexts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Resolved flags by name, for each context."""
        with httpx.Client(base_url=self.edge.worker_url(WORKER), timeout=10) as client:
            return [self._resolve(client, context) for context in contexts]

    def _resolve(self, client: httpx.Client, context: dict[str, Any]) -> dict[str, Any]:
        body = {"clientSecret": self.secret, "evaluationContext": context, "apply": True}
        answer = client.post("/v1/flags:resolve", json=body).raise_for_status()
        return {flag["flag"]: flag for flag in answer.json()["resolvedFlags"]}


def test_from_state_to_sql(tmp_path: Path) -> None:
    """Every exposure that a visitor got is one row, and draining again adds none."""
    with LocalEdge(dir=tmp_path / "edge") as edge:
        edge.publish_state(shop.WEB_SECRET, shop.shop_payload())
        system = System(edge, tmp_path, shop.WEB_SECRET)
        assert system.run("sync-job", "run", "--json")["outcome"] == "deployed"
        answers = system.resolve(list(shop.visitors(200)))
        time.sleep(1)
        drained = system.run("log-consumer", "drain", "--json")
        again = system.run("log-consumer", "drain", "--json")
        rows = system.sql("select flag, variant, count(*) as n from exposures group by all")
    expected = Counter(
        (name, flag.get("variant")) for answer in answers for name, flag in answer.items() if flag.get("shouldApply")
    )
    assert {(row["flag"], row["variant"]): row["n"] for row in rows} == dict(expected)
    assert drained["rejected_count"] == 0
    assert again["loaded_count"] == 0


def test_demo_account(tmp_path: Path, demo_payload: bytes) -> None:
    """A real state goes the whole way; answers are the official resolver's, exposures are its assignments."""
    oracle = Oracle(demo_payload)
    contexts = [{"visitor_id": unit} for unit in ["tutorial_visitor", *(f"visitor-{number}" for number in range(100))]]
    with LocalEdge(dir=tmp_path / "edge") as edge:
        edge.publish_state(DEMO_SECRET, demo_payload)
        system = System(edge, tmp_path, DEMO_SECRET)
        system.run("sync-job", "run", "--json")
        answers = system.resolve(contexts)
        time.sleep(1)
        system.run("log-consumer", "drain", "--json")
        exposures = system.sql("select targeting_key, flag, variant, rule, segment, assignment_id from exposures")
        through = system.sql("select targeting_key, rule from fallthrough_exposures")
    official = [
        oracle.resolve_flags({"clientSecret": DEMO_SECRET, "evaluationContext": context, "apply": True})
        for context in contexts
    ]
    assert answers == official
    logged = oracle.flush_logs()
    assigned = [flag for entry in logged.flag_assigned for flag in entry.flags]
    assert Counter(
        (
            row["targeting_key"] or "",
            row["flag"],
            row["variant"] or "",
            row["rule"] or "",
            row["segment"] or "",
            row["assignment_id"] or "",
        )
        for row in exposures
        if row["variant"]
    ) == Counter(
        (
            flag.targeting_key,
            flag.flag,
            flag.assignment_info.variant,
            flag.rule,
            flag.assignment_info.segment,
            flag.assignment_id,
        )
        for flag in assigned
        if flag.HasField("assignment_info")
    )
    assert len(exposures) == len(assigned)
    assert Counter((row["targeting_key"], row["rule"]) for row in through) == Counter(
        (passed.targeting_key, passed.rule) for flag in assigned for passed in flag.fallthrough_assignments
    )


def test_missing_workerd_is_named(tmp_path: Path) -> None:
    """A missing workerd is one clear line with the way out, exit 1."""
    done = subprocess.run(
        [COMMANDS / "local-edge", "up", "--dir", str(tmp_path), "--workerd", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode in {1, 2}
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
