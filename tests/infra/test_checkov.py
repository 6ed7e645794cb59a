"""checkov, unmodified, over the modules: it passes, and each check that is skipped says why."""

from __future__ import annotations

import json
import subprocess

from environments import client_python
from terraform_run import TERRAFORM


def test_checkov() -> None:
    """Nothing fails; what is skipped is few, and has a reason behind it."""
    python = client_python("checkov")
    options = ["-d", str(TERRAFORM), "--framework", "terraform", "--output", "json", "--skip-download"]
    done = subprocess.run(
        [python.parent / "checkov", *options], capture_output=True, text=True, check=False, timeout=240
    )
    results = json.loads(done.stdout)["results"]
    assert [(check["check_id"], check["resource"]) for check in results["failed_checks"]] == []
    assert results["parsing_errors"] == []
    assert len(results["passed_checks"]) > 100
    reasons = {check["check_id"]: check["check_result"]["suppress_comment"] for check in results["skipped_checks"]}
    assert all(len(reason.split()) > 1 for reason in reasons.values()), reasons
    assert len(reasons) < 20
