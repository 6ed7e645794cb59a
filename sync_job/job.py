"""One pass: what is live → fetch → decode → validate → compile → assemble → deploy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from flagedge import __version__
from flagedge.settings import Secret
from sync_job.assemble import CLIENT_SECRET_NAME, DeployedFacts, assemble_upload, digest_settings, namespace_bindings
from sync_job.deadline import NEVER, Deadline
from sync_job.deploy import (
    UPLOAD_S,
    Deployer,
    LiveWorker,
    ensure_namespaces,
    ensure_queue,
    find_address,
    read_live_worker,
)
from sync_job.fetch import FetchedState, fetch_state, find_state_url, has_changed
from sync_job.findings import Finding, Note
from sync_job.lease import Lease, LeaseHeldError, open_lease
from sync_job.settings import SyncSettings
from sync_job.token_keys import FIRST_NAME, TokenKey, choose_keys
from sync_job.workers_api import WorkersApi

if TYPE_CHECKING:
    from sync_job.compiled import Plan
    from sync_job.decode import DecodedState

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one run differs from the scheduled one.

    `force` deploys whatever is live and accepts another account's state, `adopt` takes the queue from a push consumer,
    `rotate_key` binds a fresh token key that seals from now on.
    """

    force: bool = False
    adopt: bool = False
    rotate_key: bool = False
    deadline: Deadline = NEVER


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did. `outcome` is `unchanged`, `deployed`, `checked` (nothing is to be deployed) or `held`
    (another run has the lease); `url` is empty where there is no workers.dev.
    """

    outcome: str
    worker_name: str
    etag: str
    previous_etag: str = ""
    url: str = ""
    flag_count: int = 0
    upload_bytes: int = 0
    state_age_s: int = 0
    """How long ago the state that is live was first deployed."""
    duration_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run(settings: SyncSettings, api: WorkersApi, options: RunOptions | None = None) -> RunResult:
    """Bring the Worker up to date, or find that it is.

    Idempotent; safe to run again after a crash at any point. Raises FlagedgeError.
    """
    began_s = time.monotonic()
    digest = digest_settings(settings.worker, _known_secrets(settings))
    result = _Run(settings, api, options or RunOptions(), digest, int(time.time())).go()
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
    now_s: int

    @property
    def name(self) -> str:
        return self.settings.worker.worker_name

    def go(self) -> RunResult:
        live = read_live_worker(self.api, self.name)
        url = find_state_url(self.settings)
        if self._may_stay(live) and not has_changed(url, live.etag):
            return self._unchanged(live)
        if self.settings.no_deploy:
            _, plan = self._compile(live, fetch_state(url))
            return RunResult("checked", self.name, plan.etag, live.etag, flag_count=plan.flag_count)
        try:
            with open_lease(self.settings.lease, f"{self.api.find_account_id()}/{self.name}") as lease:
                return self._go_in_lease(url, lease)
        except LeaseHeldError as held:
            _log.info("lease.held", reason=str(held))
            return RunResult("held", self.name, live.etag, live.etag)

    def _go_in_lease(self, url: str, lease: Lease) -> RunResult:
        """Another run may have done it all since: what is decided, is decided on what is seen inside the lease."""
        live = read_live_worker(self.api, self.name)
        known_etag = live.etag if self._may_stay(live) else ""
        fetched = fetch_state(url, known_etag=known_etag)
        if fetched is None or fetched.etag == known_etag:
            return self._unchanged(live)
        return self._deploy(live, fetched, lease)

    def _may_stay(self, live: LiveWorker) -> bool:
        """Whether all but the state is as it should be."""
        is_current = live.version == __version__ and live.settings_digest == self.digest and bool(live.token_keys)
        is_forced = self.options.force or self.options.rotate_key or self.settings.force
        return is_current and not live.is_under_way and not is_forced

    def _unchanged(self, live: LiveWorker) -> RunResult:
        return RunResult("unchanged", self.name, live.etag, live.etag, state_age_s=self._age_s(live))

    def _age_s(self, live: LiveWorker) -> int:
        return max(0, self.now_s - live.state_since_s) if live.state_since_s else 0

    def _compile(self, live: LiveWorker, fetched: FetchedState | None) -> tuple[DecodedState, Plan]:
        # Imported late: a run that finds nothing to do needs neither protobuf nor the compiler.
        from sync_job.compile import compile_plan  # noqa: PLC0415
        from sync_job.decode import decode_state, decrypt_state  # noqa: PLC0415
        from sync_job.validate import validate_state  # noqa: PLC0415

        assert fetched is not None
        key = self.settings.state_key
        decoded = decode_state(decrypt_state(fetched.data, key) if key else fetched.data)
        notes = validate_state(
            decoded,
            client_secret=self.settings.client_secret,
            live_account=live.account,
            accept=self._accepted,
            has_materializations=self.settings.worker.has_materializations,
        )
        _log_notes(notes)
        plan = compile_plan(decoded, etag=fetched.etag)
        _log.info("plan.compiled", etag=plan.etag, flag_count=plan.flag_count)
        return decoded, plan

    @property
    def _accepted(self) -> frozenset[Finding]:
        forced = {Finding.ACCOUNT_CHANGED} if self.options.force else set()
        return self.settings.accepted_findings | forced

    def _deploy(self, live: LiveWorker, fetched: FetchedState, lease: Lease) -> RunResult:
        from sync_job.gate import open_gate  # noqa: PLC0415 (as in _compile)
        from sync_job.validate import check_upload_size  # noqa: PLC0415

        worker, deadline = self.settings.worker, self.options.deadline
        base = self.api.get_deployment(self.name) if live.exists else None
        decoded, plan = self._compile(live, fetched)
        keys = choose_keys(
            self._sealing_keys(live), given=self.settings.token_key, rotate=self.options.rotate_key, now_s=self.now_s
        )
        since_s = live.state_since_s if live.etag == plan.etag and live.state_since_s else self.now_s
        facts = DeployedFacts(settings_digest=self.digest, state_since_s=since_s, token_keys=keys.keys)
        upload = assemble_upload(plan, worker, facts=facts)
        _log_notes(check_upload_size(upload, accept=self._accepted))
        # Nothing was written so far.
        deadline.require(2 * UPLOAD_S, step="deploy")
        lease.renew()
        ensure_queue(self.api, self.settings, adopt=self.options.adopt)
        upload = upload.with_bindings(namespace_bindings(ensure_namespaces(self.api, self.settings)))
        secrets = {CLIENT_SECRET_NAME: self.settings.client_secret, **keys.bound}
        address = find_address(self.api, worker)
        gate = open_gate(self.settings, address, decoded, plan.etag)
        Deployer(self.api, self.name, address, lease, deadline, gate).deploy(live, base, upload, secrets)
        return RunResult(
            "deployed",
            self.name,
            plan.etag,
            live.etag,
            url=address or "",
            flag_count=plan.flag_count,
            upload_bytes=upload.size_bytes,
            state_age_s=self.now_s - since_s,
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
    known = {CLIENT_SECRET_NAME: settings.client_secret}
    return known | {FIRST_NAME: settings.token_key} if settings.token_key else known
