"""Clients from npm, unmodified, in the folder that pins them: run by node, or bundled for a Worker or a page."""

from __future__ import annotations

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "tests/clients/npm"
ESBUILD = REPOSITORY / "worker/node_modules/.bin/esbuild"


def run_node(script: str, *arguments: str, said: str = "") -> str:
    """What a script of the folder prints, given `said` on its standard input."""
    command = ["node", FOLDER / script, *arguments]
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bundle(script: str, *options: str) -> bytes:
    """A script of the folder and all that it imports as one module."""
    command = [ESBUILD, FOLDER / script, "--bundle", "--format=esm", "--log-level=error", *options]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
