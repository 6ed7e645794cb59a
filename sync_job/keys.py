"""`sync-job keys`: the keys of apply tokens on the live Worker, listed, rotated, retired."""

from __future__ import annotations

import time

from sync_job.job import RunOptions, RunResult, run
from sync_job.lease_places import open_lease
from sync_job.live import read_live_worker
from sync_job.occasion import Cause, find_actor
from sync_job.settings import SyncSettings
from sync_job.token_keys import TokenKey, TokenKeyError, find_retirable
from sync_job.workers_api import WorkersApi


def list_keys(settings: SyncSettings, api: WorkersApi) -> tuple[TokenKey, ...]:
    """The keys that are bound, oldest first; the last one seals."""
    return read_live_worker(api, settings.worker.worker_name).token_keys


def rotate_key(settings: SyncSettings, api: WorkersApi) -> RunResult:
    """Deploy with a fresh key that seals; those before it go on opening. No token in flight fails."""
    if settings.token_key:
        raise TokenKeyError(
            "the token key is given by RESOLVE_TOKEN_ENCRYPTION_KEY",
            hint="Set another value there and run `sync-job run`: the old key stays bound and opens",
        )
    return run(settings, api, RunOptions(rotate_key=True, cause=Cause("command", find_actor())))


def retire_key(settings: SyncSettings, api: WorkersApi, which: str, *, force: bool = False) -> TokenKey:
    """Remove a key that no token in flight needs. Raises TokenKeyError, and LeaseHeldError while a run goes on."""
    name = settings.worker.worker_name
    with open_lease(settings.lease, f"{api.find_account_id()}/{name}") as lease:
        keys = read_live_worker(api, name).token_keys
        ttl_s = settings.worker.token_ttl_s
        key = find_retirable(keys, which, ttl_s=ttl_s, now_s=int(time.time()), force=force)
        lease.renew()
        api.delete_secret(name, key.name)
    return key
