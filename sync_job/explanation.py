"""`sync-job explain`: which state is asked about, with which overrides, and what is said of the flag."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

from flagedge.settings import Secret
from sync_job.archive import load_state
from sync_job.candidate import fetch_candidate
from sync_job.compile import compile_plan
from sync_job.decode import DecodedState
from sync_job.evaluate import evaluate
from sync_job.evaluation import Evaluation
from sync_job.explain import explain, explain_rules
from sync_job.fetch import find_state_url
from sync_job.live import read_live_worker
from sync_job.materializations import Materializations
from sync_job.override_state import OVERRIDE_FIELD, OverriddenState, settle_overrides
from sync_job.overrides import Override
from sync_job.plan import load_plan
from sync_job.recorder import open_records, read_archived_records
from sync_job.records import Record
from sync_job.settings import SyncSettings
from sync_job.values import read_context
from sync_job.workers_api import WorkersApi


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a flag is, and why. Where it is overridden, `without_override` is what its own rules say."""

    evaluation: Evaluation
    override: Override | None = None
    without_override: Evaluation | None = None

    def to_json(self) -> dict[str, Any]:
        """The evaluation's own keys, `override` and `without_override`; null for what is not there."""
        return self.evaluation.to_json() | {
            "override": self.override.to_json() if self.override else None,
            "without_override": self.without_override.to_json() if self.without_override else None,
        }

    def to_text(self) -> str:
        """For people."""
        if self.override is None or self.without_override is None:
            return explain(self.evaluation)
        overridden = explain(self.evaluation, override=self.override.describe())
        return f"{overridden}\n\nwithout the override\n{explain_rules(self.without_override)}"


def explain_flag(
    target: OverriddenState, flag: str, context: str, *, client: str, client_secret: Secret, has_materializations: bool
) -> Explanation:
    """Explain a flag, named with or without `flags/`, to the named client, that with the secret, or the only one.

    `context` is JSON text; `has_materializations` says whether sticky assignments are on. Their records are not read:
    it is told which ones decide. Raises FlagedgeError for a client, flag or context that cannot be asked about.
    """
    known = Materializations(state="partial") if has_materializations else None

    def decide(decoded: DecodedState) -> Evaluation:
        compiled = compile_plan(decoded, etag=target.etag)
        plan = load_plan(compiled.text, compiled.bits)
        named = {"name": client} if client else {"secret": client_secret} if client_secret else {}
        credential = plan.find_credential(**named)
        return evaluate(plan, flag, read_context(context), credential=credential, materializations=known)

    evaluation = decide(target.effective)
    override = next((each for each in target.overrides if each.flag == evaluation.flag), None)
    return Explanation(evaluation, override, decide(target.decoded) if override else None)


def fetch_target(settings: SyncSettings, api: WorkersApi) -> OverriddenState:
    """What the CDN serves, with the overrides that hold on it, or would if it came live now."""
    candidate = fetch_candidate(find_state_url(settings), settings.state_key)
    live = read_live_worker(api, settings.worker.worker_name)
    overrides = live.overrides
    if live.etag != candidate.etag:
        overrides, _ = settle_overrides(overrides, candidate.decoded.resolver_state, now_s=int(time.time()))
    return OverriddenState(candidate.etag, candidate.decoded, overrides)


def load_target(settings: SyncSettings, api: WorkersApi, etag: str) -> OverriddenState:
    """A state that was deployed, as it is live, or as it was when it was live last. Raises ArchiveError."""
    archived = load_state(settings, api, etag)
    live = read_live_worker(api, settings.worker.worker_name)
    overrides = live.overrides
    if live.etag != archived.etag:
        store = open_records(settings, api)
        overrides = find_recorded_overrides(read_archived_records(store) if store else (), archived.etag)
    return OverriddenState(archived.etag, archived.decoded, overrides)


def find_recorded_overrides(records: Iterable[Record], etag: str) -> tuple[Override, ...]:
    """Those that held after the last deployment of a state; `records` are the newest first, each tells its changes."""
    deployed = (record for record in records if record.deployment.outcome == "deployed")
    told: dict[str, Mapping[str, Any] | None] = {}
    for record in dropwhile(lambda record: record.state_etag != etag, deployed):
        for change in record.changes:
            if change["field"] == OVERRIDE_FIELD:
                told.setdefault(change["flag"], change["new"])
    return tuple(Override(**new) for new in told.values() if new)
