"""What is to be live, up to its plan: the state is chosen, overrides are laid over it, it is checked and compiled.

Nothing here writes anything.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from sync_job.archive import open_archive
from sync_job.candidate import Candidate, Chooser, find_archived
from sync_job.compile import compile_plan
from sync_job.compiled import Plan
from sync_job.fetch import find_state_url
from sync_job.findings import Finding, Note
from sync_job.found import Found
from sync_job.live import LiveWorker
from sync_job.one_pass import Pass
from sync_job.override_state import OverriddenState, name_change, settle_overrides
from sync_job.page_cohorts import warn_of_cohorts
from sync_job.runs import RunResult
from sync_job.validate import validate_state

_log = structlog.get_logger()


def choose_state(this: Pass, found: Found, *, is_forced: bool = False, is_due: bool = False) -> Candidate | None:
    """The state to bring live, None where there is nothing to do.

    A forced one is the CDN's whatever is live; what is due is not the state that is rolled back to.
    """
    chooser = Chooser(find_state_url(this.settings), this.settings.state_key, found.archive)
    if this.options.rollback_to is not None and not is_due:
        may_stay = this.may_stay(found.live)
        return chooser.find_earlier(found.served, this.options.rollback_to, may_stay=may_stay)
    live = found.live
    # Whoever breaks the glass does not want a new state along with it.
    if this.options.overrides is not None and (again := find_archived(found.archive, found.served)):
        return again
    is_forced = is_forced or this.options.force or this.ends_rollback(live)
    return chooser.find_new(live, may_stay=this.may_stay(live) and not is_due, is_forced=is_forced)


def override_candidate(this: Pass, served: LiveWorker, candidate: Candidate) -> OverriddenState:
    """The candidate with the overrides that hold on it. Raises OverrideError."""
    state, overrides = candidate.decoded.resolver_state, served.overrides
    if this.options.overrides is not None:
        overrides = name_change(this.options.overrides, state).apply(overrides)
    kept, dropped = settle_overrides(overrides, state, now_s=this.now_s)
    for override, reason in dropped:
        _log.warning("override.dropped", flag=override.flag, variant=override.variant, reason=reason)
    return OverriddenState(candidate.etag, candidate.decoded, kept)


def make_plan(this: Pass, live: LiveWorker, target: OverriddenState) -> Plan:
    """Check and compile it. Raises StateError for a state that may not be live."""
    notes = validate_state(
        target.decoded,
        client_secret=this.settings.client_secret,
        live_account=live.account,
        accept=accepted_findings(this),
        has_materializations=this.settings.worker.has_materializations,
    )
    log_notes(notes)
    plan = compile_plan(target.effective, etag=target.etag)
    _log.info("plan.compiled", etag=plan.etag, flag_count=plan.flag_count)
    warn_of_cohorts(plan, this.settings.worker.pages, this.settings.client_secret)
    _warn_of_clients(this.settings.worker.ofrep_clients, target)
    return plan


def _warn_of_clients(named: Iterable[str], target: OverriddenState) -> None:
    """Log what OFREP_CLIENTS says of nobody: a backend's secret that is misnamed there is not refused from browsers."""
    names = sorted(client.name for client in target.decoded.resolver_state.clients)
    for name in sorted(set(named).difference(names)):
        _log.warning(
            "ofrep.client_unknown", client=name, hint=f"OFREP_CLIENTS names clients of the state: {', '.join(names)}"
        )


def check_state(this: Pass, live: LiveWorker) -> RunResult:
    """All of the above with the CDN's state, of whatever age, and nothing after it."""
    found = Found(live, live, None, open_archive(this.settings, this.api))
    candidate = choose_state(this, found, is_forced=True)
    assert candidate is not None  # a forced one is there
    plan = make_plan(this, live, override_candidate(this, live, candidate))
    return RunResult("checked", this.worker_name, plan.etag, live.etag, flag_count=plan.flag_count)


def accepted_findings(this: Pass) -> frozenset[Finding]:
    """What is to be noted where it would be refused."""
    forced = {Finding.ACCOUNT_CHANGED} if this.options.force else set()
    return this.settings.accepted_findings | forced


def log_notes(notes: Iterable[Note]) -> None:
    for note in notes:
        _log.warning("state.noted", finding=note.finding.code, count=note.count, says=note.to_text())
