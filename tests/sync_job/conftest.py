"""A local edge with a published state, and the settings that point at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import shop
from operators import operator_environ
from sync_command import Sync

from local_edge.server import LocalEdge

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What runs keep at home goes to one of the tests' own; the official resolver stays compiled for next time."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(REPOSITORY / "build/cache"))
        yield home


@dataclass(slots=True)
class Operator:
    """Somebody with an account, a client secret and a shell."""

    edge: LocalEdge
    environ: dict[str, str] = field(default_factory=dict)

    def publish(self, state: bytes, *, encrypted: bool = False) -> None:
        """Put a state where the CDN serves it, and point the settings at it."""
        self.edge.publish_state(shop.WEB_SECRET, state, encrypted=encrypted)
        self.environ |= operator_environ(self.edge, shop.WEB_SECRET, encrypted=encrypted)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """An operator of an account on loopback, the shop's state published."""
    with LocalEdge(dir=tmp_path / "edge", grace_s=0.5) as edge:
        operator = Operator(edge)
        operator.publish(shop.shop_payload())
        yield operator


@pytest.fixture
def sync(operator: Operator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sync:
    """The command, run with that operator's settings."""
    return Sync(operator, monkeypatch, capsys)
