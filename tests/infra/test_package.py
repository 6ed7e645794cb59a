"""`make package`: the same inputs give the same files, within the budget, with what a function needs and no more."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from artefacts import ARCHITECTURE, HANDLERS, PYTHON_VERSION, call, digest

from flagedge.errors import LocalError
from infra import package
from infra.package import FUNCTIONS, MB, Artefact, build_function, build_wheel, describe, write_zip

IMPORT_S = 0.5
NEEDED = {"httpx", "idna", "structlog"}
"""Packages of others that a cold start waits for; the consumer also for its database."""


def test_a_zip_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    """Not on times, modes, or the order in which files were written."""
    digests = []
    for names, mode, at_s in ((("a.py", "b/c.so"), 0o644, 1_000_000_000), (("b/c.so", "a.py"), 0o755, 1_700_000_000)):
        root = tmp_path / str(mode)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            path.chmod(mode)
            os.utime(path, (at_s, at_s))
        artefact = write_zip(tmp_path / f"{mode}.zip", root, [PurePosixPath(name) for name in names])
        digests.append(artefact.sha256)
    assert digests[0] == digests[1]
    (root / "a.py").write_text("another")
    assert write_zip(tmp_path / "changed.zip", root, [PurePosixPath(name) for name in names]).sha256 != digests[0]


def test_the_same_sources_give_the_same_files(artefacts: dict[str, Artefact], tmp_path: Path) -> None:
    """A wheel and a function that are built again have the digest that they had, whatever the umask."""
    first = build_wheel(tmp_path / "first")
    before = os.umask(0o077)
    try:
        again = build_wheel(tmp_path / "again")
    finally:
        os.umask(before)
    assert digest(first) == digest(again)
    built = build_function(
        FUNCTIONS[0], wheel_beside(artefacts), tmp_path, architecture=ARCHITECTURE, python=PYTHON_VERSION
    )
    assert built.sha256 == artefacts["sync-job"].sha256


def test_one_wheel_is_there(tmp_path: Path) -> None:
    """That of an earlier version goes: an image would be told to install both."""
    (tmp_path / "flagedge-0.0.1-py3-none-any.whl").touch()
    assert [build_wheel(tmp_path)] == list(tmp_path.glob("*.whl"))


def wheel_beside(artefacts: dict[str, Artefact]) -> Path:
    """The wheel that the zips were made from."""
    [wheel] = artefacts["sync-job"].path.parent.glob("*.whl")
    return wheel


@pytest.mark.parametrize("job", HANDLERS)
def test_what_is_in_a_zip(job: str, artefacts: dict[str, Artefact]) -> None:
    """What the function imports of ours, the Worker's bundle with the sync, nothing compiled or of this machine."""
    with zipfile.ZipFile(artefacts[job].path) as archive:
        names = archive.namelist()
        texts = [archive.read(name) for name in names if name.endswith((".json", ".txt", "METADATA", "RECORD"))]
    roots = {name.partition("/")[0] for name in names}
    assert {"flagedge", HANDLERS[job].partition(".")[0]} <= roots
    assert len(roots & {"sync_job", "log_consumer", "local_edge", "tests"}) == 1
    assert ("sync_job/bundle/worker.js" in names) == (job == "sync-job")
    assert ("log_consumer/sql/health.sql" in names) == (job == "log-consumer")
    assert not [name for name in names if name.endswith((".pyc", "direct_url.json"))]
    assert not [text for text in texts if str(package.REPOSITORY).encode() in text]


@pytest.mark.parametrize("job", HANDLERS)
def test_size(job: str, artefacts: dict[str, Artefact]) -> None:
    """Within the budget, and reported with the limit beside it."""
    assert artefacts[job].unzipped_bytes < package.BUDGET_BYTES < package.LIMIT_BYTES
    assert f"{artefacts[job].unzipped_bytes / MB:.1f} MB unzipped" in describe(artefacts[job])


def test_over_the_budget(artefacts: dict[str, Artefact], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A function that grew too large is an error with the size, and no zip."""
    monkeypatch.setattr(package, "BUDGET_BYTES", 10 * MB)
    with pytest.raises(LocalError, match=r"sync-job-.*zip unzips to \d+ MB; the budget is 10"):
        build_function(
            FUNCTIONS[0], wheel_beside(artefacts), tmp_path, architecture=ARCHITECTURE, python=PYTHON_VERSION
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("job", HANDLERS)
def test_cold_start(job: str, unpacked: dict[str, Path]) -> None:
    """An import takes at most half a second, compiling included, and brings nothing that is not needed yet."""
    tries = [call(job, unpacked[job], {}) for _ in range(3)]
    assert min(told["import_s"] for told in tries) <= IMPORT_S
    imported = {name.partition(".")[0] for name in tries[0]["imported"]}
    ours = {"flagedge", HANDLERS[job].partition(".")[0]}
    wanted = NEEDED | ours | ({"_duckdb", "duckdb"} if job == "log-consumer" else set())
    assert imported - sys.stdlib_module_names - {"__main__"} == wanted
