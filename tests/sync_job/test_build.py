"""`sync-job build`: what would be uploaded, as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shop

from sync_job.assemble import BUNDLE
from sync_job.cli import main


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    path = tmp_path / "state.pb"
    path.write_bytes(shop.shop_payload())
    return path


def test_build_writes_metadata_and_every_module(state_file: Path, tmp_path: Path) -> None:
    """The folder holds metadata.json and the modules that an upload has, under their names."""
    assert main(["build", "--state", str(state_file), "--out", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"metadata.json", "worker.js", "murmur3.wasm", "plan.json", "bitsets.bin"}
    assert json.loads((tmp_path / "out/metadata.json").read_text())["main_module"] == "worker.js"


def test_build_twice_is_the_same(state_file: Path, tmp_path: Path) -> None:
    """Same input, same bytes."""
    for name in ("one", "two"):
        main(["build", "--state", str(state_file), "--out", str(tmp_path / name)])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("settings", "script"),
    [
        ({}, "worker.js"),
        ({"TOKEN_FORMAT": "upstream", "ALLOWED_ORIGIN": "https://shop.example.com"}, "worker.js"),
        ({"PAGE_FLAGS": '{"/": ["checkout"]}', "PAGE_ORIGIN": "https://shop.example.com"}, "worker_full.js"),
        ({"ENABLE_STICKY_ASSIGNMENTS": "true"}, "worker_full.js"),
        ({"ENABLE_METRICS": "true"}, "worker_full.js"),
        ({"LOG_FORMAT": "upstream"}, "worker_full.js"),
        ({"PUBLISH": "kv", "STATE_MAC_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}, "worker_full.js"),
    ],
)
def test_build_has_the_parts_that_its_settings_use(
    state_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], script: str
) -> None:
    """The Worker's module is always worker.js; pages, KV, upstream's log messages are in it where wanted."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert main(["build", "--state", str(state_file), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/worker.js").read_bytes() == (BUNDLE / script).read_bytes()
    assert not (tmp_path / "out/worker_full.js").exists()


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"\xff\xff\xff"])
def test_build_refuses_what_is_no_state(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no state is one error line and exit 1, and nothing is written."""
    state = tmp_path / "state.pb"
    state.write_bytes(content)
    assert main(["build", "--state", str(state), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: the state ")
    assert not (tmp_path / "out").exists()


def test_build_without_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file is named."""
    assert main(["build", "--state", str(tmp_path / "none.pb"), "--out", str(tmp_path / "out")]) == 1
    assert "none.pb" in capsys.readouterr().err
