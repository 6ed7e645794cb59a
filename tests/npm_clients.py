"""Clients from npm, unmodified, in the folder that pins them: run by node, or bundled for a Worker or a page."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "tests/clients/npm"
# Flagship's provider means node's modules by their old names.
FOR_WORKERS = ("--external:node:*", "--alias:async_hooks=node:async_hooks", "--alias:events=node:events")
ESBUILD = REPOSITORY / "worker/node_modules/.bin/esbuild"


def run_node(script: str, *arguments: str, said: str = "") -> str:
    """What a script of the folder prints, given `said` on its standard input."""
    return _run(["node", script, *arguments], said.encode()).decode()


def run_module(code: str) -> str:
    """What a module prints that is read as if it lay in the folder."""
    return _run(["node", "--input-type=module"], code.encode()).decode()


def bundle(script: str, *options: str) -> bytes:
    """A script of the folder and all that it imports as one module."""
    return bundle_text((FOLDER / script).read_text(), *options)


def bundle_text(code: str, *options: str) -> bytes:
    """The same for a text, as if it lay in the folder; what it imports by a site's path is left to the site."""
    left = [f"--external:/{name}" for name in ("flags.js", "openfeature.js")]
    command = [ESBUILD, "--bundle", "--format=esm", "--log-level=error", *left, *options]
    return _run(command, code.encode())


def _run(command: Sequence[str | Path], said: bytes) -> bytes:
    done = subprocess.run(command, cwd=FOLDER, input=said, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
