"""`sync-job override`: break-glass, set, listed and cleared; a change is live when the command is done."""

from __future__ import annotations

import time
from collections.abc import Callable

from flagedge.errors import FlagedgeError
from sync_job.job import RunOptions, RunResult, run
from sync_job.lease import LeaseHeldError
from sync_job.live import read_live_worker
from sync_job.occasion import Cause, find_actor
from sync_job.overrides import Override, OverrideChange, OverrideError
from sync_job.settings import SyncSettings
from sync_job.workers_api import WorkersApi

WHY_MAX_CHARS = 500
LEASE_WAIT_S = 60
_FLAGS = "flags/"


def set_override(
    settings: SyncSettings, api: WorkersApi, flag: str, *, variant: str, why: str, lasting_s: float | None
) -> RunResult:
    """Give everybody the variant, "" for the caller's default, for as long as that or until it is cleared.

    Raises OverrideError for what the state does not have, and FlagedgeError where the deployment fails.
    """
    now_s, actor = int(time.time()), find_actor()
    override = Override(
        flag=flag,
        variant=variant,
        why=why,
        since_s=now_s,
        until_s=0 if lasting_s is None else now_s + int(lasting_s),
        actor=actor,
    )
    return _deploy(settings, api, OverrideChange(put=override), Cause("override", actor, why))


def clear_overrides(settings: SyncSettings, api: WorkersApi, flag: str, *, why: str = "") -> RunResult:
    """Let the rules of a flag decide again, "" for all flags. Raises OverrideError for one that is not overridden."""
    name = flag if flag.startswith(_FLAGS) else _FLAGS + flag
    change = OverrideChange(clear=frozenset({name}) if flag else None)
    return _deploy(settings, api, change, Cause("override", find_actor(), why))


def list_overrides(settings: SyncSettings, api: WorkersApi) -> tuple[Override, ...]:
    """Those that are in the Worker, also where their time is over and no run has come by since."""
    return read_live_worker(api, settings.worker.worker_name).overrides


def _deploy(
    settings: SyncSettings,
    api: WorkersApi,
    change: OverrideChange,
    cause: Cause,
    sleep: Callable[[float], None] = time.sleep,
) -> RunResult:
    """Run with the change; a scheduled run that has the lease is waited for."""
    if len(cause.why) > WHY_MAX_CHARS:
        raise OverrideError(f"a reason has at most {WHY_MAX_CHARS} characters", hint="Shorten --why")
    for _ in range(LEASE_WAIT_S):
        try:
            return run(settings, api, RunOptions(overrides=change, cause=cause))
        except LeaseHeldError:
            sleep(1)
    raise FlagedgeError(
        f"another run has had the lease for {LEASE_WAIT_S} s", hint="Nothing was changed: try again in a moment"
    )
