"""OFREP's contract, held against the deployed Worker by schemathesis: made-up requests, right and wrong ones."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import SECRET
from client_flags import Site, run_site
from environments import client_python

CONTRACT = Path(__file__).parent / "ofrep_contract.yaml"
# More is accepted than the contract asks for: clients send no context when they have none, and flags may need no key.
NOT_CHECKED = "negative_data_rejection"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with run_site(tmp_path_factory.mktemp("edge")) as site:
        yield site


@pytest.mark.parametrize(("secret", "examples"), [(SECRET, 60), ("wrong", 5)])
def test_contract(site: Site, tmp_path: Path, secret: str, examples: int) -> None:
    """Every answer has a status, type, headers and body of the contract, whatever is sent, by whomever."""
    schemathesis = client_python("schemathesis").with_name("schemathesis")
    command = [schemathesis, "--no-color", "run", CONTRACT, "--url", site.url, "-H", f"Authorization: Bearer {secret}"]
    command += ["--checks", "all", "--exclude-checks", NOT_CHECKED, "--seed", "1", "--max-examples", str(examples)]
    command += ["--phases", "coverage,fuzzing", "--continue-on-failure"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={"PATH": ""})
    assert done.returncode == 0, done.stdout + done.stderr
