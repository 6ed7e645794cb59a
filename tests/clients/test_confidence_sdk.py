"""PyPI `spotify-confidence-sdk`, unmodified, against our Worker; its pins need an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import (
    SECRET,
    assignment,
    client_default,
    fallthrough,
    flag,
    payload,
    rule,
    schema,
    state,
    variant,
)
from environments import client_python
from operators import operator_environ
from segments import eq, segment

from local_edge.server import LocalEdge
from sync_job.cli import main

SCRIPT = Path(__file__).parent / "confidence_sdk_script.py"
VALUE = {
    "on": True,
    "name": "é😀",
    "count": 5,
    "price": 5.0,
    "ratio": 0.25,
    "nested": {"deep": "yes"},
    "tags": ["a", "b"],
}

Evaluate = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def sdk_python() -> Path:
    return client_python("confidence-sdk")


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sdk_python: Path) -> Iterator[Evaluate]:
    """Evaluates (method, key, default, context) tuples through the SDK."""
    types = schema(
        {"on": bool, "name": str, "count": int, "price": float, "ratio": float, "nested": {"deep": str}, "tags": [str]}
    )
    built = payload(
        state(
            flag("f", rule(assignments=[assignment("on")]), variants=[variant("on", VALUE)], schema=types),
            flag("nobody", rule(segment="nobody")),
            flag("default", rule(assignments=[client_default((0, 100))])),
            flag("through", rule("first", assignments=[fallthrough((0, 100))]), rule("second")),
            segments=[segment("nobody", eq("country", "XX"))],
        )
    )
    with LocalEdge(dir=tmp_path / "edge", grace_s=0.5) as edge:
        edge.publish_state(SECRET, built)
        for name, value in operator_environ(edge, SECRET).items():
            monkeypatch.setenv(name, value)
        assert main(["run"]) == 0
        url = edge.worker_url("confidence-cloudflare-resolver")

        def run(*calls: tuple[str, str, Any, dict[str, Any]]) -> list[dict[str, Any]]:
            done = subprocess.run(
                [sdk_python, SCRIPT, url, SECRET],
                input=json.dumps(calls),
                capture_output=True,
                text=True,
                check=True,
                env={"PATH": os.environ["PATH"]},
            )
            results: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
            return results

        yield run


def test_every_type_has_its_value(evaluate: Evaluate) -> None:
    """Booleans, texts, integers, floats and objects come out of the SDK's typed getters."""
    unit = {"targeting_key": "u"}
    results = evaluate(
        ("boolean", "f.on", False, unit),
        ("string", "f.name", "", unit),
        ("integer", "f.count", 0, unit),
        ("float", "f.price", 0.0, unit),
        ("float", "f.ratio", 0.0, unit),
        ("string", "f.nested.deep", "", unit),
        ("object", "f.nested", {}, unit),
    )
    assert [result["value"] for result in results] == [True, "é😀", 5, 5.0, 0.25, "yes", {"deep": "yes"}]
    assert {result["variant"] for result in results} == {"on"}
    assert {result["error"] for result in results} == {None}


def test_no_value_means_the_callers_default(evaluate: Evaluate) -> None:
    """No match, a client default, and a flag that does not exist leave the caller's default, without a crash."""
    unit = {"targeting_key": "u"}
    results = evaluate(
        ("string", "nobody.text", "mine", unit),
        ("string", "default.text", "mine", unit),
        ("string", "absent.text", "mine", unit),
    )
    assert [result["value"] for result in results] == ["mine", "mine", "mine"]


def test_fall_through_reaches_the_next_rule(evaluate: Evaluate) -> None:
    """A flag that fell through its first rule has the second one's variant."""
    [result] = evaluate(("object", "through", {}, {"targeting_key": "u"}))
    assert result["variant"] == "on"
