"""One pass of sync_job: what it was asked for, what its steps share, and what is due by that.

Imported by every run, so nothing here needs protobuf.
"""

from __future__ import annotations

from dataclasses import dataclass

from flagedge import __version__
from flagedge.settings import Secret
from sync_job.assemble import CLIENT_SECRET_NAME, MAC_KEY_NAME, digest_settings
from sync_job.live import LiveWorker
from sync_job.publish import is_behind
from sync_job.runs import RunOptions, RunResult
from sync_job.settings import SyncSettings
from sync_job.timings import Timings
from sync_job.token_keys import FIRST_NAME
from sync_job.workers_api import WorkersApi


@dataclass(frozen=True, slots=True)
class Pass:
    """`digest` is of the settings, as a version keeps it."""

    settings: SyncSettings
    api: WorkersApi
    options: RunOptions
    digest: str
    began_at_s: float
    timings: Timings

    @property
    def worker_name(self) -> str:
        return self.settings.worker.worker_name

    @property
    def now_s(self) -> int:
        return int(self.began_at_s)

    @property
    def is_forced(self) -> bool:
        return self.options.force or self.settings.force

    @property
    def is_rollback(self) -> bool:
        return self.options.rollback_to is not None

    def ends_rollback(self, live: LiveWorker) -> bool:
        return self.options.resume and bool(live.rolled_back_from)

    def may_stay(self, live: LiveWorker) -> bool:
        """Whether all but the state is as it should be."""
        is_current = live.version == __version__ and live.settings_digest == self.digest and bool(live.token_keys)
        is_due = self.options.overrides is not None or any(each.is_over(self.now_s) for each in live.overrides)
        is_as_left = is_current and not live.is_under_way and not is_due and not is_behind(live, now_s=self.now_s)
        return is_as_left and not self.is_forced and not self.options.rotate_key and not self.ends_rollback(live)

    def age_s(self, live: LiveWorker) -> int:
        """How long ago the live state was first deployed."""
        return max(0, self.now_s - live.state_since_s) if live.state_since_s else 0

    def leave(self, live: LiveWorker) -> RunResult:
        """The result of a pass that changes nothing."""
        return RunResult(
            "unchanged",
            self.worker_name,
            live.etag,
            live.etag,
            rolled_back_from=live.rolled_back_from,
            overridden=tuple(override.flag for override in live.overrides),
            state_age_s=self.age_s(live),
        )


def begin_pass(settings: SyncSettings, api: WorkersApi, options: RunOptions, *, began_at_s: float) -> Pass:
    """A pass that has done nothing yet."""
    digest = digest_settings(settings.worker, _known_secrets(settings))
    return Pass(settings, api, options, digest, began_at_s, Timings())


def _known_secrets(settings: SyncSettings) -> dict[str, Secret]:
    """Secrets that the operator gave; one that we made is not known to later runs and decides nothing."""
    known = {CLIENT_SECRET_NAME: settings.client_secret, **settings.worker.pages.secrets()}
    if settings.worker.publishes:
        known[MAC_KEY_NAME] = settings.state_mac_key
    return known | {FIRST_NAME: settings.token_key} if settings.token_key else known
