"""Terraform's modules applied once, with stand-ins for the providers."""

from __future__ import annotations

import fcntl
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from artefacts import build, unpack
from terraform_run import CLIENT_SECRET, Terraform

from infra.package import Artefact

ACCOUNT_ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Zips to name; what is in them does not matter to Terraform."""
    folder = tmp_path_factory.mktemp("packages")
    paths = {"sync_job": folder / "sync-job-arm64.zip", "log_consumer": folder / "log-consumer-arm64.zip"}
    for path in paths.values():
        path.write_bytes(path.name.encode())
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture(scope="session")
def variables(packages: dict[str, str]) -> dict[str, Any]:
    """Everything that is optional is on."""
    return {
        "cloudflare_account_id": ACCOUNT_ID,
        "packages": packages,
        "worker_name_prefix": "shop",
        "sticky_assignments": True,
        "worker_metrics": True,
        "publish": "kv",
        "rules_ttl_ms": 10_000,
        "max_blast_radius": 0.5,
        "pages": {
            "flags": {"/shop/*": ["checkout-layout"]},
            "context": {"targeting_key": "access:sub", "country": "cf:country", "plan": "signed:plan"},
            "origin": "https://origin.example.com",
            "access": {"team": "https://example.cloudflareaccess.com", "audience": "app"},
        },
        "create_api_tokens": True,
        "catalogue": {"host": "db.example.com", "database": "lake", "user": "flagedge"},
        "network": {"subnet_ids": ["subnet-1", "subnet-2"], "security_group_ids": ["sg-1"]},
        "kms_key_arn": "arn:aws:kms:eu-central-1:123456789012:key/k",
        "alarm_emails": ["on-call@example.com"],
        "more_secrets": ["sync-job/STATE_ENCRYPTION_KEY"],
        "secret_values": {"sync-job/CONFIDENCE_CLIENT_SECRET": CLIENT_SECRET},
        "secret_versions": {"sync-job/CONFIDENCE_CLIENT_SECRET": 1},
        "sync": {"settings": {"FORCE_APPLY": "false"}},
    }


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """The root module; its state is that of the session."""
    return Terraform(".", tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="session")
def applied(root: Terraform, variables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Attributes by address of everything that the root module makes."""
    return root.apply(**variables)


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Artefact]:
    """Both functions' zips, for this machine's Python; the first test process that asks builds them for all."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "artefacts"
    folder.mkdir(exist_ok=True)
    built = folder / "built.pickle"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            built.write_bytes(pickle.dumps(build(folder)))
    artefacts: dict[str, Artefact] = pickle.loads(built.read_bytes())
    return artefacts


@pytest.fixture(scope="session")
def unpacked(artefacts: dict[str, Artefact], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that hold a zip's files and nothing else, by job."""
    return {job: unpack(artefact, tmp_path_factory.mktemp(job)) for job, artefact in artefacts.items()}
