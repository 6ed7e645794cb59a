"""What a pass does once it has the lease: look again, then deploy, step or record what is due.

Another run may have done it all since: what is decided, is decided on what is seen here.
"""

from __future__ import annotations

from flagedge.errors import FlagedgeError
from sync_job.audit import REFUSALS, open_audit
from sync_job.bring_live import bring_live
from sync_job.candidate import Candidate, find_archived
from sync_job.deploy import find_address
from sync_job.found import Found, look_around
from sync_job.gate import GateError, open_gate
from sync_job.lease import Lease
from sync_job.one_pass import Pass
from sync_job.override_state import OverriddenState
from sync_job.overrides import write_overrides
from sync_job.prepare import choose_state, override_candidate
from sync_job.runs import RunResult
from sync_job.steps import take_step
from sync_job.traffic import Traffic


def do_what_is_due(this: Pass, lease: Lease) -> RunResult:
    """All that a pass may write. Raises FlagedgeError."""
    found = _look_around(this)
    if found.live.is_unrecorded and _record_again(this, found):
        found = _look_around(this)
    with this.timings.measure("fetch"):
        candidate = choose_state(this, found)
    traffic = Traffic(this.api, this.worker_name, lease, this.options.deadline)
    if candidate is not None:
        return _replace(this, found, candidate, traffic)
    if found.live.is_stepping:
        return _step(this, found, traffic)
    return this.leave(found.live)


def _look_around(this: Pass) -> Found:
    return look_around(this.settings, this.api, now_s=this.began_at_s)


def _replace(this: Pass, found: Found, candidate: Candidate, traffic: Traffic) -> RunResult:
    """Bring the candidate live; where it may not be, tell people, and do with the live state what else is due."""
    target = override_candidate(this, found.served, candidate)
    try:
        return bring_live(this, found, candidate, target, traffic)
    except REFUSALS as refusal:
        open_audit(this, found).tell(refusal, target)
        if candidate.etag != found.served.etag and _is_else_due(this, found, refusal):
            _renew_live(this, traffic)
        raise


def _is_else_due(this: Pass, found: Found, refusal: FlagedgeError) -> bool:
    """Whether the live state has to be deployed again, though no other may be."""
    # What the gate refused is the latest version from now on, so that one is always to be replaced.
    is_due = not isinstance(refusal, GateError) and not this.may_stay(found.live)
    return is_due or any(override.is_over(this.now_s) for override in found.served.overrides)


def _renew_live(this: Pass, traffic: Traffic) -> None:
    """Deploy the live state with what is due, if the archive has it."""
    found = _look_around(this)
    again = find_archived(found.archive, found.served)
    if again is not None:
        bring_live(this, found, again, override_candidate(this, found.served, again), traffic)


def _record_again(this: Pass, found: Found) -> bool:
    """Send the record of what is live, which could not be sent when it was deployed; whether that worked now."""
    live = found.live
    candidate = find_archived(found.archive, found.served) or choose_state(this, found, is_due=True)
    if candidate is None or candidate.etag != live.etag:
        return False
    target = OverriddenState(live.etag, candidate.decoded, live.overrides)
    if not open_audit(this, found).record_deployed(target, live.occasion):
        return False
    tags = [tag for tag in live.tags if tag != live.occasion.record_tag]
    this.api.patch_script_settings(this.worker_name, {"tags": tags})
    return True


def _step(this: Pass, found: Found, traffic: Traffic) -> RunResult:
    """Give new code of the Worker more of the traffic."""
    live = found.live
    address = find_address(this.api, this.settings.worker)
    gate = open_gate(this.settings, address, live.etag, write_overrides(live.overrides))
    try:
        step = take_step(this.api, traffic, gate, this.settings.steps, live)
    except GateError as refusal:
        open_audit(this, found).tell_of_code(refusal)
        raise
    return RunResult(
        "stepped",
        this.worker_name,
        live.etag,
        live.etag,
        share=step.share,
        url=address or "",
        state_age_s=this.age_s(live),
    )
