"""One pass: what is live → fetch → decode → validate → override → compile → archive → assemble → deploy → record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from flagedge import __version__
from flagedge.errors import FlagedgeError
from flagedge.settings import Secret
from sync_job.assemble import (
    CLIENT_SECRET_NAME,
    MAC_KEY_NAME,
    DeployedFacts,
    assemble_upload,
    digest_settings,
    namespace_bindings,
)
from sync_job.deploy import Deployer, Release, find_address
from sync_job.fetch import find_state_url, has_changed
from sync_job.findings import Finding, Note
from sync_job.gate import GateError, open_gate
from sync_job.hot_state import worker_key
from sync_job.lease import Lease, LeaseHeldError
from sync_job.lease_places import open_lease
from sync_job.live import LiveWorker, read_live_worker
from sync_job.overrides import write_overrides
from sync_job.publish import ensure_pointer, find_obstacle, is_behind, next_sequence, publish_plan
from sync_job.resources import ensure_namespaces, ensure_queue
from sync_job.runs import RunOptions, RunResult
from sync_job.settings import STATE_NAMESPACE, SyncSettings
from sync_job.steps import AT_ONCE, find_first_share, take_step
from sync_job.timings import Timings
from sync_job.token_keys import FIRST_NAME, TokenKey, choose_keys
from sync_job.traffic import UPLOAD_S, Traffic
from sync_job.workers_api import WorkersApi

if TYPE_CHECKING:
    from sync_job.audit import Audit
    from sync_job.candidate import Candidate
    from sync_job.compiled import Plan
    from sync_job.found import Found
    from sync_job.override_state import OverriddenState

__all__ = ["RunOptions", "RunResult", "run"]
_log = structlog.get_logger()


def run(settings: SyncSettings, api: WorkersApi, options: RunOptions | None = None) -> RunResult:
    """Bring the Worker up to date, or find that it is.

    Idempotent; safe to run again after a crash at any point. Raises FlagedgeError.
    """
    began_s = time.monotonic()
    digest = digest_settings(settings.worker, _known_secrets(settings))
    result = _Run(settings, api, options or RunOptions(), digest, time.time(), Timings()).go()
    result = replace(result, duration_s=round(time.monotonic() - began_s, 3))
    _log.info("job.finished", **result.to_json())
    return result


@dataclass(frozen=True, slots=True)
class _Run:
    """One run, and what its steps share."""

    settings: SyncSettings
    api: WorkersApi
    options: RunOptions
    digest: str
    began_at_s: float
    timings: Timings

    @property
    def name(self) -> str:
        return self.settings.worker.worker_name

    @property
    def now_s(self) -> int:
        return int(self.began_at_s)

    def go(self) -> RunResult:
        live = read_live_worker(self.api, self.name)
        is_done = not live.is_stepping and not live.is_unrecorded
        is_settled = self._may_stay(live) and is_done and self.options.rollback_to is None
        if is_settled and not has_changed(find_state_url(self.settings), live.known_etag):
            return self._unchanged(live)
        if self.settings.no_deploy:
            return self._check(live)
        try:
            with open_lease(self.settings.lease, f"{self.api.find_account_id()}/{self.name}") as lease:
                return self._go_in_lease(lease)
        except LeaseHeldError as held:
            if self.options.rollback_to is not None:
                raise FlagedgeError(held.message, hint="Nothing was rolled back: try again in a moment") from held
            if self.options.overrides is not None:
                raise
            _log.info("lease.held", reason=str(held))
            return RunResult("held", self.name, live.etag, live.etag)

    def _go_in_lease(self, lease: Lease) -> RunResult:
        """Another run may have done it all since: what is decided, is decided on what is seen inside the lease."""
        # Imported late: a run that finds nothing to do needs neither protobuf nor the compiler.
        from sync_job.found import look_around  # noqa: PLC0415

        found = look_around(self.settings, self.api, now_s=self.began_at_s)
        if found.live.is_unrecorded and self._record_again(found):
            found = look_around(self.settings, self.api, now_s=self.began_at_s)
        live = found.live
        with self.timings.measure("fetch"):
            candidate = self._choose(found)
        traffic = Traffic(self.api, self.name, lease, self.options.deadline)
        if candidate is not None:
            return self._replace(found, candidate, traffic)
        if live.is_stepping:
            return self._step(found, traffic)
        return self._unchanged(live)

    def _replace(self, found: Found, candidate: Candidate, traffic: Traffic) -> RunResult:
        """Deploy the candidate; where it may not be live, tell people, and do with the live state what else is due."""
        from sync_job.audit import REFUSALS  # noqa: PLC0415 (as in _go_in_lease)
        from sync_job.blast import BlastRadiusError  # noqa: PLC0415
        from sync_job.found import look_around  # noqa: PLC0415

        target = self._override(found.served, candidate)
        try:
            return self._deploy(found, candidate, target, traffic)
        except REFUSALS as refusal:
            is_due = isinstance(refusal, BlastRadiusError) and not self._may_stay(found.live)
            if is_due and (again := self._choose_live(found)):
                self._deploy(found, again, self._override(found.served, again), traffic)
                found = look_around(self.settings, self.api, now_s=self.began_at_s)
            self._open_audit(found).tell(refusal, target)
            raise

    def _record_again(self, found: Found) -> bool:
        """Send the record of what is live, which could not be sent when it was deployed; whether that worked now."""
        from sync_job.override_state import OverriddenState  # noqa: PLC0415 (as in _go_in_lease)

        live = found.live
        candidate = self._choose_live(found) or self._choose(found, is_due=True)
        if candidate is None or candidate.etag != live.etag:
            return False
        target = OverriddenState(live.etag, candidate.decoded, live.overrides)
        if not self._open_audit(found).record_deployed(target, live.occasion):
            return False
        tags = [tag for tag in live.tags if tag != live.occasion.record_tag]
        self.api.patch_script_settings(self.name, {"tags": tags})
        return True

    def _check(self, live: LiveWorker) -> RunResult:
        """Do all that changes nothing, with a state of whatever age."""
        from sync_job.archive import open_archive  # noqa: PLC0415 (as in _go_in_lease)
        from sync_job.found import Found  # noqa: PLC0415

        candidate = self._choose(Found(live, live, None, open_archive(self.settings, self.api)), is_forced=True)
        assert candidate is not None  # a forced one is there
        plan = self._compile(live, self._override(live, candidate))
        return RunResult("checked", self.name, plan.etag, live.etag, flag_count=plan.flag_count)

    def _may_stay(self, live: LiveWorker) -> bool:
        """Whether all but the state is as it should be."""
        is_current = live.version == __version__ and live.settings_digest == self.digest and bool(live.token_keys)
        is_due = self.options.overrides is not None or any(each.is_over(self.now_s) for each in live.overrides)
        is_as_left = is_current and not live.is_under_way and not is_due and not is_behind(live, now_s=self.now_s)
        return is_as_left and not self._is_forced and not self.options.rotate_key and not self._ends_rollback(live)

    @property
    def _is_forced(self) -> bool:
        return self.options.force or self.settings.force

    def _ends_rollback(self, live: LiveWorker) -> bool:
        return self.options.resume and bool(live.rolled_back_from)

    def _unchanged(self, live: LiveWorker) -> RunResult:
        return RunResult(
            "unchanged",
            self.name,
            live.etag,
            live.etag,
            rolled_back_from=live.rolled_back_from,
            overridden=tuple(override.flag for override in live.overrides),
            state_age_s=self._age_s(live),
        )

    def _age_s(self, live: LiveWorker) -> int:
        return max(0, self.now_s - live.state_since_s) if live.state_since_s else 0

    def _choose(self, found: Found, *, is_forced: bool = False, is_due: bool = False) -> Candidate | None:
        """The state to deploy, None where there is nothing to do."""
        from sync_job.candidate import Chooser  # noqa: PLC0415

        chooser = Chooser(find_state_url(self.settings), self.settings.state_key, found.archive)
        if self.options.rollback_to is not None and not is_due:
            may_stay = self._may_stay(found.live)
            return chooser.find_earlier(found.served, self.options.rollback_to, may_stay=may_stay)
        live = found.live
        # Whoever breaks the glass does not want a new state along with it.
        if self.options.overrides is not None and (again := self._choose_live(found)):
            return again
        is_forced = is_forced or self.options.force or self._ends_rollback(live)
        return chooser.find_new(live, may_stay=self._may_stay(live) and not is_due, is_forced=is_forced)

    def _choose_live(self, found: Found) -> Candidate | None:
        """What is served, once more; None where the archive does not have it."""
        from sync_job.candidate import find_archived  # noqa: PLC0415

        return find_archived(found.archive, found.served)

    def _override(self, served: LiveWorker, candidate: Candidate) -> OverriddenState:
        """The candidate with the overrides that hold on it. Raises OverrideError."""
        from sync_job.override_state import OverriddenState, name_change, settle_overrides  # noqa: PLC0415

        state, overrides = candidate.decoded.resolver_state, served.overrides
        if self.options.overrides is not None:
            overrides = name_change(self.options.overrides, state).apply(overrides)
        kept, dropped = settle_overrides(overrides, state, now_s=self.now_s)
        for override, reason in dropped:
            _log.warning("override.dropped", flag=override.flag, variant=override.variant, reason=reason)
        return OverriddenState(candidate.etag, candidate.decoded, kept)

    def _compile(self, live: LiveWorker, target: OverriddenState) -> Plan:
        from sync_job.compile import compile_plan  # noqa: PLC0415
        from sync_job.page_cohorts import warn_of_cohorts  # noqa: PLC0415
        from sync_job.validate import validate_state  # noqa: PLC0415

        notes = validate_state(
            target.decoded,
            client_secret=self.settings.client_secret,
            live_account=live.account,
            accept=self._accepted,
            has_materializations=self.settings.worker.has_materializations,
        )
        _log_notes(notes)
        plan = compile_plan(target.effective, etag=target.etag)
        _log.info("plan.compiled", etag=plan.etag, flag_count=plan.flag_count)
        warn_of_cohorts(plan, self.settings.worker.pages, self.settings.client_secret)
        return plan

    @property
    def _accepted(self) -> frozenset[Finding]:
        forced = {Finding.ACCOUNT_CHANGED} if self.options.force else set()
        return self.settings.accepted_findings | forced

    def _deploy(self, found: Found, candidate: Candidate, target: OverriddenState, traffic: Traffic) -> RunResult:
        from sync_job.upload_size import check_upload_size  # noqa: PLC0415

        live, served, worker = found.live, found.served, self.settings.worker
        audit = self._open_audit(found)
        with self.timings.measure("compile"):
            plan = self._compile(live, target)
        with self.timings.measure("impact"):
            audit.check_impact(target, is_approved=self._is_approved(target))
        if worker.publishes:
            obstacle = self._find_obstacle(found, candidate, target, plan)
            if not obstacle:
                return self._publish(found, candidate, target, plan, traffic)
            _log.info("plan.not_published", etag=plan.etag, reason=obstacle)
        keys = choose_keys(
            self._sealing_keys(live), given=self.settings.token_key, rotate=self.options.rotate_key, now_s=self.now_s
        )
        since_s = live.state_since_s if live.etag == plan.etag and live.state_since_s else self.now_s
        overrides, occasion = write_overrides(target.overrides), audit.find_occasion(target)
        facts = DeployedFacts(
            self.digest,
            since_s,
            candidate.rolled_back_from,
            keys.keys,
            overrides,
            occasion.to_text(),
            next_sequence(found) if worker.publishes else 0,
        )
        upload = assemble_upload(plan, worker, facts=facts)
        _log_notes(check_upload_size(upload, accept=self._accepted))
        # Nothing was written so far.
        self.options.deadline.require(2 * UPLOAD_S, step="deploy")
        traffic.lease.renew()
        self._archive(found, candidate)
        ensure_queue(self.api, self.settings, adopt=self.options.adopt)
        namespace_ids = ensure_namespaces(self.api, self.settings)
        upload = upload.with_bindings(namespace_bindings(namespace_ids))
        secrets = {CLIENT_SECRET_NAME: self.settings.client_secret, **keys.bound, **worker.pages.secrets()}
        if worker.publishes:
            secrets[MAC_KEY_NAME] = worker_key(self.settings)
            ensure_pointer(self.api, namespace_ids[STATE_NAMESPACE[0]])
        address = find_address(self.api, worker)
        gate = open_gate(self.settings, address, plan.etag, overrides)
        is_at_once = self._is_forced or target.overrides != served.overrides
        steps = AT_ONCE if is_at_once else self.settings.steps
        share = find_first_share(steps, served, etag=plan.etag, keys=keys.keys)
        told = audit.find_told_tags(target.etag)
        release = Release(upload, secrets, target.effective, occasion.record_tag, told, share)
        record = partial(audit.record_deployed, target, occasion)
        Deployer(self.api, traffic, address, gate, record, self.timings).deploy(live, found.base, release)
        return RunResult(
            "deployed",
            self.name,
            plan.etag,
            served.etag,
            rolled_back_from=candidate.rolled_back_from,
            overridden=tuple(override.flag for override in target.overrides),
            share=share,
            url=address or "",
            flag_count=plan.flag_count,
            upload_bytes=upload.size_bytes,
            state_age_s=self.now_s - since_s,
        )

    def _find_obstacle(self, found: Found, candidate: Candidate, target: OverriddenState, plan: Plan) -> str:
        """Why the candidate has to be deployed where states are published; "" where it can be published."""
        if self.options.rollback_to is not None or candidate.rolled_back_from:
            return "it is a rollback"
        if not self._may_stay(found.live) or target.overrides != found.served.overrides:
            return "more is due than another state"
        return find_obstacle(found, plan)

    def _publish(
        self, found: Found, candidate: Candidate, target: OverriddenState, plan: Plan, traffic: Traffic
    ) -> RunResult:
        # Nothing was written so far.
        self.options.deadline.require(2 * UPLOAD_S, step="publish")
        traffic.lease.renew()
        self._archive(found, candidate)
        address = publish_plan(plan, target, self._open_audit(found), traffic, now_s=self.now_s)
        return RunResult(
            "published",
            self.name,
            plan.etag,
            found.served.etag,
            overridden=tuple(override.flag for override in target.overrides),
            url=address or "",
            flag_count=plan.flag_count,
        )

    def _archive(self, found: Found, candidate: Candidate) -> None:
        """Keep the state before it is deployed, and let go of what is too old; a deployment does not wait for that."""
        from sync_job.archive_store import ArchiveError  # noqa: PLC0415
        from sync_job.candidate import keep  # noqa: PLC0415

        archive, served = found.archive, found.served
        try:
            if archive is None or not keep(archive, candidate, served_etag=served.etag):
                return
            archive.prune(
                keep={candidate.etag, served.etag, served.known_etag},
                now=datetime.fromtimestamp(self.now_s, UTC),
                retention=timedelta(days=self.settings.archive_retention_days),
            )
        except ArchiveError as error:
            _log.warning("state.not_archived", etag=candidate.etag, reason=str(error))

    def _is_approved(self, target: OverriddenState) -> bool:
        """Whether an operator asked for this very state."""
        is_asked = self.options.rollback_to is not None or self.options.resume
        return is_asked or self.options.approve.strip('"') == target.etag.strip('"') != ""

    def _open_audit(self, found: Found) -> Audit:
        from sync_job.audit import Audit  # noqa: PLC0415 (as in _go_in_lease)

        began_ms = int(1000 * self.began_at_s)
        return Audit(self.settings, self.api, self.digest, self.options.cause, began_ms, self.timings, found)

    def _step(self, found: Found, traffic: Traffic) -> RunResult:
        live = found.live
        address = find_address(self.api, self.settings.worker)
        gate = open_gate(self.settings, address, live.etag, write_overrides(live.overrides))
        try:
            step = take_step(self.api, traffic, gate, self.settings.steps, live)
        except GateError as refusal:
            self._open_audit(found).tell_of_code(refusal)
            raise
        age_s = self._age_s(live)
        return RunResult(
            "stepped", self.name, live.etag, live.etag, share=step.share, url=address or "", state_age_s=age_s
        )

    def _sealing_keys(self, live: LiveWorker) -> tuple[TokenKey, ...]:
        """The Worker's keys. While a deployment is under way the newest one may not seal before this run deploys it."""
        if not live.is_under_way or len(live.token_keys) < 2:
            return live.token_keys
        return (*live.token_keys[:-1], replace(live.token_keys[-1], since_s=self.now_s))


def _log_notes(notes: Sequence[Note]) -> None:
    for note in notes:
        _log.warning("state.noted", finding=note.finding.code, count=note.count, says=note.to_text())


def _known_secrets(settings: SyncSettings) -> dict[str, Secret]:
    """Secrets that the operator gave; one that we made is not known to later runs and decides nothing."""
    known = {CLIENT_SECRET_NAME: settings.client_secret, **settings.worker.pages.secrets()}
    if settings.worker.publishes:
        known[MAC_KEY_NAME] = settings.state_mac_key
    return known | {FIRST_NAME: settings.token_key} if settings.token_key else known
