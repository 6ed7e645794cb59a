from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flagedge.errors import LocalError
from local_edge.process import find_workerd
from local_edge.server import LocalEdge

sys.path.insert(0, str(Path(__file__).parent))
from edge_account import EdgeAccount


@pytest.fixture(scope="session")
def workerd() -> Path:
    try:
        return find_workerd(None, os.environ, Path(__file__).parent)
    except LocalError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def edge(workerd: Path) -> Iterator[LocalEdge]:
    """One account for a module; tests keep apart by their names."""
    with LocalEdge(workerd=workerd, grace_s=1.5) as edge:
        yield edge


@pytest.fixture
def account(edge: LocalEdge) -> Iterator[EdgeAccount]:
    account = EdgeAccount(edge)
    yield account
    edge.reset()
    account.http.close()
