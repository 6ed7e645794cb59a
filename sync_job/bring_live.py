"""How a state comes live: compiled, measured, archived, then published by way of KV or deployed as a version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from flagedge.settings import Secret
from sync_job.archive_store import ArchiveError
from sync_job.assemble import (
    CLIENT_SECRET_NAME,
    MAC_KEY_NAME,
    DeployedFacts,
    assemble_upload,
    namespace_bindings,
)
from sync_job.audit import Audit, open_audit
from sync_job.candidate import Candidate, keep
from sync_job.compiled import Plan
from sync_job.deploy import Deployer, Release, find_address
from sync_job.found import Found
from sync_job.gate import open_gate
from sync_job.hot_state import worker_key
from sync_job.occasion import Occasion
from sync_job.one_pass import Pass
from sync_job.override_state import OverriddenState
from sync_job.overrides import write_overrides
from sync_job.prepare import accepted_findings, log_notes, make_plan
from sync_job.publish import ensure_pointer, find_obstacle, next_sequence, publish_plan
from sync_job.resources import ensure_namespaces, ensure_queue
from sync_job.runs import RunResult
from sync_job.settings import STATE_NAMESPACE
from sync_job.steps import AT_ONCE, find_first_share
from sync_job.token_keys import KeyChange, choose_keys
from sync_job.traffic import UPLOAD_S, Traffic
from sync_job.upload_size import check_upload_size

_log = structlog.get_logger()


def bring_live(this: Pass, found: Found, candidate: Candidate, target: OverriddenState, traffic: Traffic) -> RunResult:
    """Bring `target`, the candidate with its overrides, live in place of what was found. Raises FlagedgeError."""
    audit = open_audit(this, found)
    with this.timings.measure("compile"):
        plan = make_plan(this, found.live, target)
    with this.timings.measure("impact"):
        audit.check_impact(target, is_approved=_is_approved(this, target))
    replacement = _Replacement(this, found, candidate, target, plan, audit, traffic)
    if this.settings.worker.publishes:
        obstacle = replacement.find_obstacle()
        if not obstacle:
            return replacement.publish()
        _log.info("plan.not_published", etag=plan.etag, reason=obstacle)
    return replacement.deploy()


def _is_approved(this: Pass, target: OverriddenState) -> bool:
    """Whether an operator asked for this very state."""
    is_asked = this.is_rollback or this.options.resume
    return is_asked or this.options.approve.strip('"') == target.etag.strip('"') != ""


@dataclass(frozen=True, slots=True)
class _Replacement:
    """A plan that may be live, and all that its way there takes."""

    this: Pass
    found: Found
    candidate: Candidate
    target: OverriddenState
    plan: Plan
    audit: Audit
    traffic: Traffic

    def find_obstacle(self) -> str:
        """Why the candidate has to be deployed where states are published; "" where it can be published."""
        if self.this.is_rollback or self.candidate.rolled_back_from:
            return "it is a rollback"
        if not self.this.may_stay(self.found.live) or self.target.overrides != self.found.served.overrides:
            return "more is due than another state"
        return find_obstacle(self.found, self.plan)

    def publish(self) -> RunResult:
        # Nothing was written so far.
        self.this.options.deadline.require(2 * UPLOAD_S, step="publish")
        self.traffic.lease.renew()
        self._archive()
        address = publish_plan(self.plan, self.target, self.audit, self.traffic, now_s=self.this.now_s)
        return self._describe("published", address)

    def deploy(self) -> RunResult:
        this, worker = self.this, self.this.settings.worker
        keys = self._choose_keys()
        occasion = self.audit.find_occasion(self.target)
        facts = self._list_facts(keys, occasion)
        upload = assemble_upload(self.plan, worker, facts=facts)
        log_notes(check_upload_size(upload, accept=accepted_findings(this)))
        # Nothing was written so far.
        this.options.deadline.require(2 * UPLOAD_S, step="deploy")
        self.traffic.lease.renew()
        self._archive()
        namespace_ids = self._make_resources()
        address = find_address(this.api, worker)
        gate = open_gate(this.settings, address, self.plan.etag, facts.overrides)
        release = Release(
            upload.with_bindings(namespace_bindings(namespace_ids)),
            self._list_secrets(keys),
            self.target.effective,
            occasion.record_tag,
            self.audit.find_told_tags(self.target.etag),
            self._find_share(keys),
        )
        record = partial(self.audit.record_deployed, self.target, occasion)
        deployer = Deployer(this.api, self.traffic, address, gate, record, this.timings)
        deployer.deploy(self.found.live, self.found.base, release)
        return replace(
            self._describe("deployed", address),
            rolled_back_from=self.candidate.rolled_back_from,
            share=release.share,
            upload_bytes=upload.size_bytes,
            state_age_s=this.now_s - facts.state_since_s,
        )

    def _describe(self, outcome: str, address: str | None) -> RunResult:
        return RunResult(
            outcome,
            self.this.worker_name,
            self.plan.etag,
            self.found.served.etag,
            overridden=tuple(override.flag for override in self.target.overrides),
            url=address or "",
            flag_count=self.plan.flag_count,
        )

    def _choose_keys(self) -> KeyChange:
        """While a deployment is under way the newest key may not seal before this pass deploys it."""
        keys, now_s = self.found.live.token_keys, self.this.now_s
        if self.found.live.is_under_way and len(keys) >= 2:
            keys = (*keys[:-1], replace(keys[-1], since_s=now_s))
        return choose_keys(keys, given=self.this.settings.token_key, rotate=self.this.options.rotate_key, now_s=now_s)

    def _list_facts(self, keys: KeyChange, occasion: Occasion) -> DeployedFacts:
        live = self.found.live
        is_same_state = live.etag == self.plan.etag and live.state_since_s
        return DeployedFacts(
            self.this.digest,
            live.state_since_s if is_same_state else self.this.now_s,
            self.candidate.rolled_back_from,
            keys.keys,
            write_overrides(self.target.overrides),
            occasion.to_text(),
            next_sequence(self.found) if self.this.settings.worker.publishes else 0,
        )

    def _archive(self) -> None:
        """Keep the state before it is live, and let go of what is too old; nothing waits for that."""
        this, archive, candidate, served = self.this, self.found.archive, self.candidate, self.found.served
        try:
            if archive is None or not keep(archive, candidate, served_etag=served.etag):
                return
            archive.prune(
                keep={candidate.etag, served.etag, served.known_etag},
                now=datetime.fromtimestamp(this.now_s, UTC),
                retention=timedelta(days=this.settings.archive_retention_days),
            )
        except ArchiveError as error:
            _log.warning("state.not_archived", etag=candidate.etag, reason=str(error))

    def _make_resources(self) -> dict[str, str]:
        """Queue, namespaces and what has to be in them; the namespaces' ids by binding."""
        this = self.this
        ensure_queue(this.api, this.settings, adopt=this.options.adopt)
        namespace_ids = ensure_namespaces(this.api, this.settings)
        if this.settings.worker.publishes:
            ensure_pointer(this.api, namespace_ids[STATE_NAMESPACE[0]])
        return namespace_ids

    def _list_secrets(self, keys: KeyChange) -> dict[str, Secret]:
        settings = self.this.settings
        secrets = {CLIENT_SECRET_NAME: settings.client_secret, **keys.bound, **settings.worker.pages.secrets()}
        return secrets | {MAC_KEY_NAME: worker_key(settings)} if settings.worker.publishes else secrets

    def _find_share(self, keys: KeyChange) -> int:
        """How much of the traffic the version gets at first."""
        served = self.found.served
        is_at_once = self.this.is_forced or self.target.overrides != served.overrides
        steps = AT_ONCE if is_at_once else self.this.settings.steps
        return find_first_share(steps, served, etag=self.plan.etag, keys=keys.keys)
