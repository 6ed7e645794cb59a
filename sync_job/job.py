"""One pass: what is live → fetch → decode → validate → override → compile → archive → assemble → deploy → record.

job          looks whether anything is due, and takes the lease for it
in_lease     looks again, and does what is due
prepare      chooses the state, lays overrides over it, checks and compiles it
bring_live   archives it, publishes or deploys it
"""

from __future__ import annotations

import time
from dataclasses import replace

import structlog

from flagedge.errors import FlagedgeError
from sync_job.fetch import find_state_url, has_changed
from sync_job.lease import LeaseHeldError
from sync_job.lease_places import open_lease
from sync_job.live import read_live_worker
from sync_job.one_pass import Pass, begin_pass
from sync_job.runs import RunOptions, RunResult
from sync_job.settings import SyncSettings
from sync_job.workers_api import WorkersApi

__all__ = ["RunOptions", "RunResult", "run"]
_log = structlog.get_logger()


def run(settings: SyncSettings, api: WorkersApi, options: RunOptions | None = None) -> RunResult:
    """Bring the Worker up to date, or find that it is.

    Idempotent; safe to run again after a crash at any point. Raises FlagedgeError.
    """
    began_s = time.monotonic()
    result = _go(begin_pass(settings, api, options or RunOptions(), began_at_s=time.time()))
    result = replace(result, duration_s=round(time.monotonic() - began_s, 3))
    _log.info("job.finished", **result.to_json())
    return result


def _go(this: Pass) -> RunResult:
    live = read_live_worker(this.api, this.worker_name)
    is_done = not live.is_stepping and not live.is_unrecorded
    is_settled = this.may_stay(live) and is_done and not this.is_rollback
    if is_settled and not has_changed(find_state_url(this.settings), live.known_etag):
        return this.leave(live)
    # Imported late: a run that finds nothing to do needs neither protobuf nor the compiler.
    if this.settings.no_deploy:
        from sync_job.prepare import check_state  # noqa: PLC0415

        return check_state(this, live)
    from sync_job.in_lease import do_what_is_due  # noqa: PLC0415

    try:
        with open_lease(this.settings.lease, f"{this.api.find_account_id()}/{this.worker_name}") as lease:
            return do_what_is_due(this, lease)
    except LeaseHeldError as held:
        if this.is_rollback:
            raise FlagedgeError(held.message, hint="Nothing was rolled back: try again in a moment") from held
        if this.options.overrides is not None:
            raise
        _log.info("lease.held", reason=str(held))
        return RunResult("held", this.worker_name, live.etag, live.etag)
