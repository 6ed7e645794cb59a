"""WORKER_NAME_PREFIX: what both jobs make of it, and what neither takes."""

from __future__ import annotations

import pytest

from flagedge.errors import SettingsError
from log_consumer.settings import read_settings
from sync_job.settings import read_worker_settings

ENVIRON = {"CLOUDFLARE_API_TOKEN": "token", "CONFIDENCE_CLIENT_SECRET": "secret", "DATABASE": "x.duckdb"}


@pytest.mark.parametrize(
    ("given", "prefix"), [("", ""), ("shop", "shop-"), ("eu-1", "eu-1-"), ("x" * 32, "x" * 32 + "-")]
)
def test_both_jobs_name_the_same_queue(given: str, prefix: str) -> None:
    """Else one would drain what the other does not fill."""
    environ = ENVIRON | {"WORKER_NAME_PREFIX": given}
    worker = read_worker_settings(environ)
    assert worker.worker_name == f"{prefix}confidence-cloudflare-resolver"
    assert len(worker.worker_name) <= 63
    assert worker.queue_name == read_settings(environ).queue_name == f"{prefix}flag-logs-queue"


@pytest.mark.parametrize("given", ["Shop", "a b", "-shop", "shop-", "shop_eu", "x" * 33, "ü"])
def test_what_cloudflare_would_refuse_halfway(given: str) -> None:
    """It is a wrong setting of both, before anything is asked."""
    environ = ENVIRON | {"WORKER_NAME_PREFIX": given}
    for read in (read_worker_settings, read_settings):
        with pytest.raises(SettingsError, match="WORKER_NAME_PREFIX must be up to 32 lower-case letters"):
            read(environ)
