"""What `sync-job explain` says of sticky rules: what the Worker does, which depends on whether it has their records."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import client, credential, flag, materialization, payload, rule, split, state, variant

from sync_job.cli import main


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """A sticky flag, asked for one unit."""
    sticky = rule(selector="v", assignments=split(x=50, y=50), materialization=materialization("m", "m"))
    built = state(
        flag("a", sticky, variants=[variant("x"), variant("y")]), clients=[client()], credentials=[credential()]
    )
    file = tmp_path / "state.pb"
    file.write_bytes(payload(built))
    return ["explain", "--state", str(file), "--flag", "a", "--context", '{"v": "u"}']


def test_with_sticky_assignments(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It depends on a record, and that is named: the command does not read it."""
    monkeypatch.setenv("ENABLE_STICKY_ASSIGNMENTS", "true")
    assert main(asked) == 0
    told = capsys.readouterr().out.splitlines()
    assert "reason    it depends on records of sticky assignments that are not known" in told
    assert 'missing   record of unit "u" in materialization m by rule r' in told


def test_without_them(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The Worker cannot decide."""
    assert main(asked) == 0
    assert "MATERIALIZATION_NOT_SUPPORTED" in capsys.readouterr().out
