"""Queues and namespaces have one owner: sync-job, or whoever MAKE_RESOURCES=false leaves them to."""

from __future__ import annotations

import httpx
import pytest
from sync_command import WORKER, Sync

from flagedge.settings import Secret
from sync_job.workers_api import WorkersApi

OTHERS = {"MAKE_RESOURCES": "false", "ENABLE_METRICS": "true"}
QUEUE = "flag-logs-queue"


@pytest.fixture
def api(sync: Sync) -> WorkersApi:
    """The account as the other owner sees it."""
    edge = sync.operator.edge
    return WorkersApi(api_token=Secret("t"), account_id=sync.account_id(), base_url=edge.api_url)


def test_what_others_own_is_not_made(sync: Sync, api: WorkersApi) -> None:
    """What is missing ends the run by its name, one after the other, and nothing is written until all is there."""
    with api:
        code, _, err = sync.run(**OTHERS)
        assert (code, f"there is no queue {QUEUE}" in err) == (1, True), err
        queue = api.create_queue(QUEUE)
        code, _, err = sync.run("--adopt", **OTHERS)
        assert (code, "has no pull consumer" in err) == (1, True), err
        api.create_pull_consumer(queue.queue_id)
        sync.requests()
        code, _, err = sync.run(**OTHERS)
        assert (code, "there is no KV namespace resolver-metrics" in err) == (1, True), err
        assert [call for call in sync.requests() if not call.startswith("GET")] == []
        api.create_kv_namespace("resolver-metrics")
        code, out, err = sync.run(**OTHERS)
    assert (code, out.split(":")[0]) == (0, "deployed"), err
    assert httpx.get(f"{sync.operator.edge.worker_url(WORKER)}/v1/state:etag").is_success
