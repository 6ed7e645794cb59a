"""The functions as they are deployed: zips for this machine, unpacked, called by a Python that has nothing else."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from infra.package import FUNCTIONS, Artefact, build_function, build_wheel

PYTHON_VERSION = f"3.{sys.version_info.minor}"
PYTHON = Path(sys.base_prefix) / f"bin/python{PYTHON_VERSION}"
ARCHITECTURE = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
HANDLERS = {"sync-job": "sync_job.handler", "log-consumer": "log_consumer.handler"}
CALL = """
import importlib, json, sys, time

class Context:
    def get_remaining_time_in_millis(self):
        return asked["left_s"] * 1000

asked = json.load(sys.stdin)
sys.path.insert(0, asked["folder"])
began = time.process_time()
module = importlib.import_module(asked["module"])
told = {"import_s": time.process_time() - began, "imported": sorted(sys.modules), "results": []}
for event in asked["events"]:
    told["results"].append(module.handler(event, Context()))
print(json.dumps(told))
"""


def build(folder: Path) -> dict[str, Artefact]:
    """Both zips, for the Python and the architecture of this machine."""
    wheel = build_wheel(folder)
    return {
        function.name: build_function(function, wheel, folder, architecture=ARCHITECTURE, python=PYTHON_VERSION)
        for function in FUNCTIONS
    }


def unpack(artefact: Artefact, folder: Path) -> Path:
    """The zip's files in a folder of their own, which nobody may write to, as on Lambda."""
    with zipfile.ZipFile(artefact.path) as archive:
        archive.extractall(folder)
    return folder


def call(job: str, folder: Path, environ: dict[str, str], *events: dict[str, Any], left_s: int = 300) -> dict[str, Any]:
    """Import the handler from the folder and call it with each event: results, modules, CPU seconds of the import.

    Nothing of this environment is there: no site-packages, no home, no compiled files kept.
    """
    asked = {"folder": str(folder), "module": HANDLERS[job], "events": events, "left_s": left_s}
    done = subprocess.run(
        [PYTHON, "-I", "-S", "-B", "-c", CALL],
        input=json.dumps(asked),
        env={"PATH": "/usr/bin:/bin", "HOME": "/no-such-home"} | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told | {"log": [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
