"""Fixtures that several packages' tests share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from shared_files import SHARED
from workerd import TestWorker, run_test_worker


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """No test logs into what another one had for stderr."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def test_worker() -> Iterator[TestWorker]:
    """The Worker's test entry point, one process for the whole session."""
    with run_test_worker() as worker:
        yield worker


@pytest.fixture(scope="session")
def demo_payload() -> bytes:
    """The real state of Confidence's demo account, where the checkout has it beside it."""
    path = SHARED / "data/confidence_demo_state.pb"
    if not path.exists():
        pytest.skip(f"the demo account's state is not at {path}")
    return path.read_bytes()


@pytest.fixture(scope="session")
def reference_vectors() -> dict[str, list[dict[str, Any]]]:
    """Vectors made by running the official builds, by kind."""
    path = SHARED / "reference/vectors.jsonl"
    if not path.exists():
        pytest.skip(f"the reference vectors are not at {path}")
    vectors: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text().splitlines():
        vector = json.loads(line)
        vectors.setdefault(vector["kind"], []).append(vector)
    return vectors
