"""Terraform itself, with stand-ins for the providers: no download, no account."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from terraform_schemas import SCHEMAS, has_schemas

REPOSITORY = Path(__file__).resolve().parents[2]
TERRAFORM = REPOSITORY / "infra/terraform"
MODULES = ("aws", "cloudflare", ".", "examples/minimal", "examples/production")
SOURCES = {"aws": "hashicorp/aws", "cloudflare": "cloudflare/cloudflare"}


CLIENT_SECRET = "a-secret-that-nobody-is-to-find"


class TerraformError(Exception):
    """Terraform refused; the text is what it says, without line breaks and frames."""


class Terraform:
    """Commands in one module's folder; what they write is in a folder of the test."""

    def __init__(self, module: str, folder: Path) -> None:
        if shutil.which("terraform") is None:
            pytest.skip("there is no terraform on this machine")
        if not has_schemas():
            pytest.skip(f"the providers' schemas are not at {SCHEMAS}")
        self.folder = folder
        self._module = TERRAFORM / module
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "FLAGEDGE_SHARED": str(SCHEMAS.parents[1]),
            "TF_CLI_CONFIG_FILE": str(write_overrides(folder)),
            "TF_DATA_DIR": str(folder / "data"),
            "TF_DISABLE_PLUGIN_TLS": "1",
            "CHECKPOINT_DISABLE": "1",
        }
        self.run("get")

    def validate(self) -> None:
        self.run("validate")

    def plan(self, **variables: Any) -> dict[str, Any]:
        """The plan as Terraform shows it in JSON. Raises TerraformError."""
        path = self.folder / "plan"
        self.run("plan", "-input=false", f"-out={path}", *self._state(), *self._variables(variables))
        shown: dict[str, Any] = json.loads(self.run("show", "-json", str(path)))
        return shown

    def apply(self, **variables: Any) -> dict[str, dict[str, Any]]:
        """Every resource's attributes by address."""
        self.run("apply", "-auto-approve", "-input=false", *self._state(), *self._variables(variables))
        state = json.loads(self.run("show", "-json", str(self.folder / "state")))
        return dict(_resources(state["values"]["root_module"]))

    @property
    def written(self) -> Path:
        """Where the stand-in notes what went through write-only arguments."""
        return self.folder / "written.jsonl"

    def written_secrets(self) -> list[tuple[str, str]]:
        """Secrets and the values that were written to them, in order."""
        lines = self.written.read_text().splitlines() if self.written.exists() else []
        return [(facts["secret_id"], facts["secret_string_wo"]) for facts in map(json.loads, lines)]

    def run(self, *arguments: str) -> str:
        """What the command prints. Raises TerraformError."""
        command = ["terraform", *arguments, *(["-no-color"] if arguments[0] != "show" else [])]
        done = subprocess.run(
            command, cwd=self._module, env=self._environ, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise TerraformError(" ".join(done.stderr.replace("│", " ").split()))
        return done.stdout

    def _state(self) -> list[str]:
        return [f"-state={self.folder / 'state'}"]

    def _variables(self, variables: dict[str, Any]) -> list[str]:
        path = self.folder / "variables.tfvars.json"
        path.write_text(json.dumps(variables))
        return [f"-var-file={path}"]


def environment_of(applied: dict[str, dict[str, Any]], job: str) -> dict[str, str]:
    [environment] = applied[f'module.aws.aws_lambda_function.job["{job}"]']["environment"]
    found: dict[str, str] = environment["variables"]
    return found


def write_overrides(folder: Path) -> Path:
    """A configuration of Terraform's that starts the stand-ins where it would download providers."""
    folder.mkdir(parents=True, exist_ok=True)
    tests = Path(__file__).resolve().parent
    for name in SOURCES:
        program = folder / f"terraform-provider-{name}"
        command = f"exec '{sys.executable}' '{tests}/stand_in_provider.py' {name}"
        program.write_text(f"#!/bin/sh\nPYTHONPATH='{tests.parent}:{tests}' {command}\n")
        program.chmod(0o755)
    overrides = "".join(f'    "{source}" = "{folder}"\n' for source in SOURCES.values())
    path = folder / "terraform.rc"
    path.write_text(f"provider_installation {{\n  dev_overrides {{\n{overrides}  }}\n}}\n")
    return path


def _resources(module: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [(resource["address"], resource["values"]) for resource in module.get("resources", [])]
    for child in module.get("child_modules", []):
        found += _resources(child)
    return found
