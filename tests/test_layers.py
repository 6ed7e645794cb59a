"""Imports point down: the jobs stand on flagedge, local_edge beside them, and none imports another."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "flagedge": {"flagedge"},
    "sync_job": {"sync_job", "flagedge"},
    "log_consumer": {"log_consumer", "flagedge"},
    "local_edge": {"local_edge", "flagedge"},
}


def imports_of(path: Path) -> set[str]:
    """Top-level packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_downwards(package: str) -> None:
    """No package imports one of ours that it does not stand on."""
    for path in (REPOSITORY / package).rglob("*.py"):
        assert imports_of(path) & MAY_IMPORT.keys() <= MAY_IMPORT[package], path


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_only_command_lines_hand_over_the_environment(package: str) -> None:
    """`os.environ` is named in cli modules alone, which pass it to settings."""
    for path in (REPOSITORY / package).rglob("*.py"):
        if "environ" in path.read_text() and path.name not in {"cli.py", "settings.py", "handler.py"}:
            names = [node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
            assert "environ" not in names or package == "local_edge", path
