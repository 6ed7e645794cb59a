"""PyPI `openfeature-provider-ofrep` and `cloudflare-flagship`, unmodified, against our Worker."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import SECRET, assignment, flag, payload, rule, schema, state, variant
from environments import client_python
from operators import operator_environ
from segments import eq, segment

from local_edge.server import LocalEdge
from sync_job import job
from sync_job.settings import read_sync_settings
from sync_job.workers_api import WorkersApi

SCRIPT = Path(__file__).parent / "openfeature_script.py"
VALUE = {"on": True, "name": "é😀", "count": 5, "price": 5.0, "ratio": 0.25, "nested": {"deep": "yes"}, "tags": ["a"]}
TYPES = {"on": bool, "name": str, "count": int, "price": float, "ratio": float, "nested": {"deep": str}, "tags": [str]}
PAYLOAD = payload(
    state(
        flag("f", rule(assignments=[assignment("on")]), variants=[variant("on", VALUE)], schema=schema(TYPES)),
        flag("swedish", rule(segment="se", assignments=[assignment("on")]), variants=[variant("on", VALUE)]),
        segments=[segment("se", eq("country", "SE"))],
    )
)
PROVIDERS = ("ofrep", "flagship")

Evaluate = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluate]:
    """Evaluates (type, key, default, targeting key, attributes) tuples through a provider."""
    with LocalEdge(dir=tmp_path_factory.mktemp("edge"), grace_s=0.5) as edge:
        edge.publish_state(SECRET, PAYLOAD)
        settings = read_sync_settings(operator_environ(edge, SECRET))
        with WorkersApi(api_token=settings.api_token, base_url=edge.api_url) as api:
            job.run(settings, api)
        url = edge.worker_url("confidence-cloudflare-resolver")

        def run(provider: str, *calls: tuple[str, str, Any, str | None, dict[str, Any]], secret: str = SECRET) -> Any:
            done = subprocess.run(
                [client_python("openfeature"), SCRIPT, provider, url, secret],
                input=json.dumps(calls),
                capture_output=True,
                text=True,
                check=True,
                env={"PATH": os.environ["PATH"]},
            )
            return json.loads(done.stdout.splitlines()[-1])

        yield run


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_type_has_its_value(evaluate: Evaluate, provider: str) -> None:
    """Integers and floats are told apart, objects come whole."""
    results = evaluate(
        provider,
        ("boolean", "f.on", False, "u", {}),
        ("string", "f.name", "", "u", {}),
        ("integer", "f.count", 0, "u", {}),
        ("float", "f.price", 0.0, "u", {}),
        ("float", "f.ratio", 0.0, "u", {}),
        ("string", "f.nested.deep", "", "u", {}),
        ("object", "f.nested", {}, "u", {}),
    )
    assert [result["value"] for result in results] == [True, "é😀", 5, 5.0, 0.25, "yes", {"deep": "yes"}]
    assert {result["error"] for result in results} == {None}
    assert {result["variant"] for result in results} == {"flags/f/variants/on"}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_targeting_and_the_callers_default(evaluate: Evaluate, provider: str) -> None:
    """A context decides; who is not targeted keeps the default, without an error."""
    match, other = evaluate(
        provider,
        ("boolean", "swedish.on", False, "u", {"country": "SE"}),
        ("boolean", "swedish.on", False, "u", {"country": "NO"}),
    )
    assert (match["value"], match["error"]) == (True, None)
    assert (other["value"], other["error"]) == (False, None)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_errors_have_their_code(evaluate: Evaluate, provider: str) -> None:
    """An unknown flag and a wrong secret are told apart."""
    [unknown] = evaluate(provider, ("boolean", "nothing", True, "u", {}))
    assert (unknown["value"], unknown["error"]) == (True, "FLAG_NOT_FOUND")
    [refused] = evaluate(provider, ("boolean", "f.on", False, "u", {}), secret="wrong")
    assert (refused["value"], refused["error"]) == (False, "GENERAL")
