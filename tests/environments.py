"""Environments of their own for clients whose pins conflict with ours: made once per version of their requirements."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def client_python(name: str) -> Path:
    """The Python of the environment with `requirements/client-<name>.txt`."""
    requirements = REPOSITORY / f"requirements/client-{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    environment = REPOSITORY / f"build/environments/{name}-{digest}"
    python = environment / "bin/python"
    if not (environment / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*pip, "-r", requirements], check=True)
        (environment / ".ready").touch()
    return python
