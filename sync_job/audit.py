"""What a run tells of itself: deployment records, and notices to people.

A deployment's record is sent before the deployment counts as done, and again by later runs until it is in the queue.
A refusal is told once for each state and kind, for as long as the script's tag says that it was: a schedule meets it
at every run. Nothing that goes wrong here changes what a run did.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import structlog

from flagedge import __version__
from flagedge.alert import send_alert
from flagedge.errors import FlagedgeError
from flagedge.wire import state_pb2
from sync_job.allocations import allocate_shares
from sync_job.archive_store import ArchiveError
from sync_job.blast import BlastRadiusError, check_impact, how_to_approve, measure_impact
from sync_job.decode import DecodedState
from sync_job.diff import diff_states
from sync_job.findings import StateError
from sync_job.found import Found
from sync_job.gate import GateError, ReturnedError
from sync_job.live import STEPPING, UNDER_WAY, LiveWorker
from sync_job.occasion import Cause, Occasion, told_tag, told_tags_of
from sync_job.one_pass import Pass
from sync_job.override_state import OverriddenState, diff_overrides
from sync_job.recorder import Recorder, open_records
from sync_job.records import Deployment, Outcome, Record, derive_record_id, new_record_id
from sync_job.settings import SyncSettings
from sync_job.timings import Timings
from sync_job.workers_api import WorkersApi

REFUSALS = (BlastRadiusError, GateError, StateError)
"""What is told to people: a state or version that is not to be live."""
_UNKNOWN_CHANGES = "what changed is not known: the archive does not have the state before"
_log = structlog.get_logger()


def open_audit(this: Pass, found: Found) -> Audit:
    """The audit of a pass."""
    began_ms = int(1000 * this.began_at_s)
    return Audit(this.settings, this.api, this.digest, this.options.cause, began_ms, this.timings, found)


@dataclass(frozen=True, slots=True)
class Audit:
    """Of one run on one Worker; `found` is what it began with."""

    settings: SyncSettings
    api: WorkersApi
    digest: str
    cause: Cause
    began_ms: int
    timings: Timings
    found: Found

    @property
    def live(self) -> LiveWorker:
        return self.found.live

    @property
    def served(self) -> LiveWorker:
        return self.found.served

    def find_occasion(self, target: OverriddenState) -> Occasion:
        """Of a deployment that is about to begin; that of the run before where this one does the same once more."""
        live = self.live
        is_same = (live.etag, live.settings_digest, live.overrides) == (target.etag, self.digest, target.overrides)
        if live.is_under_way and live.is_occasion_marked and is_same and live.version == __version__:
            return live.occasion
        cause = self.cause
        return Occasion(new_record_id(), self.served.etag, cause.trigger, cause.actor, cause.why)

    def find_told_tags(self, etag: str) -> tuple[str, ...]:
        """The tags to keep when this state is live: those of others, unless it is new and so all begins anew."""
        if etag != self.served.etag:
            return ()
        return tuple(tag for tag in self.live.told_tags if not tag.startswith(told_tags_of(etag)))

    def record_deployed(self, target: OverriddenState, occasion: Occasion, version_id: str = "") -> bool:
        """Record what is live now; whether that is known to the queue. Sent twice, it counts once."""
        try:
            active = None if version_id else self.api.get_deployment(self._name)
            version_id = active.live_version_id if active else version_id
            cause = Cause(occasion.trigger, occasion.actor, occasion.why)
            deployment = replace(self._describe("deployed", cause, occasion.previous_etag), version_id=version_id)
            if deployment.previous_version_id == version_id:  # an earlier run's, which was not recorded
                deployment = replace(deployment, previous_version_id="")
            return self._publish(occasion.record_id, deployment, target)
        except Exception as error:  # noqa: BLE001 (it is live: what cannot be told must not end the run)
            _log.warning("deployment.unrecorded", record_id=occasion.record_id, error=str(error))
            return False

    def tell(self, refusal: FlagedgeError, target: OverriddenState) -> None:
        """Record a refusal and tell people, each once, whatever becomes of the other."""
        tag = told_tag(target.etag, type(refusal).__name__)
        recorded_only, alerted_only = f"{tag}:recorded", f"{tag}:alerted"
        told = self.live.told_tags
        # Before there is a Worker nobody waits for anything, and nothing could remember who was told.
        is_marked = self.live.exists or isinstance(refusal, GateError)
        if tag in told or not is_marked:
            return
        try:
            outcome: Outcome = "returned" if isinstance(refusal, ReturnedError) else "refused"
            deployment = replace(self._describe(outcome, self.cause, self.served.etag), reason=refusal.message)
            # What was live and since when: the same refusal after another deployment is another one.
            record_id = derive_record_id(self._name, tag, self.served.etag, self.served.occasion.record_id)
            notice = self._notice(refusal, outcome, target.etag)
            is_recorded = recorded_only in told or self._publish(record_id, deployment, target)
            is_alerted = alerted_only in told or send_alert(self.settings.alert_url, notice)
            if is_recorded and is_alerted:
                self._mark_told(refusal, tag)
            elif is_recorded or is_alerted:
                self._mark_told(refusal, recorded_only if is_recorded else alerted_only)
        except Exception as error:  # noqa: BLE001 (the refusal is what the run ends with)
            _log.warning("refusal.untold", error=str(error))

    def tell_of_code(self, refusal: GateError) -> None:
        """As `tell`, of new code that had a share of the traffic; the state stays what it was."""
        empty = DecodedState("", state_pb2.ResolverState())
        self.tell(refusal, OverriddenState(self.live.etag, empty, self.live.overrides))

    def check_impact(self, target: OverriddenState, *, is_approved: bool) -> None:
        """Raises BlastRadiusError where a state would change more than the settings allow, or nobody knows how much."""
        limit, served_etag = self.settings.max_blast_radius, self.served.etag
        if limit is None or is_approved or served_etag in {"", target.etag}:
            return
        previous = self.load_previous(served_etag, target)
        if previous is None:
            raise BlastRadiusError(
                f"nobody knows how much state {target.etag} would change: the archive does not have the live one",
                hint=f"What is live stays live. Once you are sure, {how_to_approve(target.etag)}",
            )
        check_impact(measure_impact(previous, target.decoded), limit=limit, etag=target.etag)

    def _mark_told(self, refusal: FlagedgeError, tag: str) -> None:
        """Put one such tag in place of all there are: a script has room for eight."""
        # A version that was refused is the latest one, and nobody may take it for live.
        marks = [UNDER_WAY] if isinstance(refusal, GateError) or self.live.is_under_way else []
        marks += [STEPPING] if self.live.is_stepping and not marks else []
        lasting = [each for each in self.live.lasting_tags if each not in self.live.told_tags]
        self.api.patch_script_settings(self._name, {"tags": [*lasting, *marks, tag]})

    @property
    def _name(self) -> str:
        return self.settings.worker.worker_name

    def _notice(self, refusal: FlagedgeError, outcome: Outcome, etag: str) -> str:
        done = "was taken back" if outcome == "returned" else "is not deployed"
        live = f"State {self.served.etag} stays live." if self.served.etag else "No state is live."
        return f"flagedge: {self._name}: state {etag} {done}. {refusal}. {live}"

    def _describe(self, outcome: Outcome, cause: Cause, previous_etag: str) -> Deployment:
        return Deployment(
            worker=self._name,
            outcome=outcome,
            started_at_ms=self.began_ms,
            finished_at_ms=int(time.time() * 1000),
            trigger=cause.trigger,
            actor=cause.actor,
            why=cause.why,
            previous_state_etag=previous_etag,
            previous_version_id=self.found.base.live_version_id if self.found.base else "",
            settings_digest=self.digest,
            timings_ms=self.timings.to_ms(),
        )

    def _publish(self, record_id: str, deployment: Deployment, target: OverriddenState) -> bool:
        previous = self.load_previous(deployment.previous_state_etag, target)
        changes = list(diff_overrides(self.served.overrides, target.overrides))
        if previous is None:
            deployment = replace(deployment, reason="; ".join(filter(None, (deployment.reason, _UNKNOWN_CHANGES))))
        else:
            changes = [*diff_states(previous.resolver_state, target.decoded.resolver_state), *changes]
        # What was refused gives nobody anything.
        is_live = deployment.outcome == "deployed"
        record = Record(
            record_id,
            target.etag,
            __version__,
            deployment,
            [change.to_json() for change in changes],
            [each.to_json() for each in allocate_shares(target.effective.resolver_state)] if is_live else [],
        )
        store = open_records(self.settings, self.api)
        return Recorder(self.api, self.settings.worker.queue_name, store).publish(record)

    def load_previous(self, previous_etag: str, target: OverriddenState) -> DecodedState | None:
        """The state before one, without flags before the first one; None where the archive does not have it."""
        if not previous_etag:
            return DecodedState(target.decoded.account, state_pb2.ResolverState())
        if previous_etag == target.etag:
            return target.decoded
        if self.found.archive is None:
            return None
        try:
            return self.found.archive.load(previous_etag).decoded
        except ArchiveError as error:
            _log.info("state.not_in_archive", reason=error.message)
            return None
