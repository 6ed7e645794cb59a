"""A database on disk and a way to put deliveries into it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from flagedge.settings import Secret
from log_consumer.databases import Lake
from log_consumer.load import Loaded, make_stage
from log_consumer.settings import Settings
from log_consumer.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from deliveries import load_next
from fake_queue import FakeQueue
from postgres import Postgres


@pytest.fixture(autouse=True)
def _fresh_logs() -> Iterator[None]:
    """Leave no logging behind for the next test."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "exposures.duckdb")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty queue is found empty without waiting."""
    monkeypatch.setattr("log_consumer.pull.EMPTY_ROUND_PAUSE_S", 0.0)


@pytest.fixture
def settings(database: str) -> Settings:
    return Settings(api_token=Secret("token"), database=database, log_level="info")


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with Store(database, lock_wait_s=0.2, sleep=lambda _: None) as opened:
        make_stage(opened.connection)
        yield opened


@pytest.fixture
def deliver(store: Store) -> Callable[..., Loaded]:
    """Load one pull of the given bodies, as the job does, without acking."""

    def run(*bodies: str, queue: FakeQueue | None = None, **how: Any) -> Loaded:
        queue = queue or FakeQueue()
        queue.send(*bodies, **how)
        return load_next(store, queue)

    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of all catalogues of this test run."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def lake(postgres: Postgres, tmp_path: Path) -> Lake:
    """A new lake in a folder."""
    return postgres.make_lake(tmp_path / "lake")
