"""What a run is asked for, and what it says that it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sync_job.deadline import NEVER, Deadline
from sync_job.occasion import Cause
from sync_job.overrides import OverrideChange


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one run differs from the scheduled one.

    `force` deploys whatever is live and accepts another account's state, `adopt` takes the queue from a push consumer,
    `rotate_key` binds a fresh token key that seals from now on. `rollback_to` is the entity tag of an archived state to
    deploy instead of the CDN's, "" for the one before what is live; `resume` ends a rollback, as `force` does.
    `overrides` changes what is overridden, on the live state where that is archived. `approve` is the entity tag of a
    state whose blast radius is known and wanted. `cause` is what the deployment's record tells.
    """

    force: bool = False
    adopt: bool = False
    rotate_key: bool = False
    rollback_to: str | None = None
    resume: bool = False
    overrides: OverrideChange | None = None
    approve: str = ""
    cause: Cause = Cause()  # noqa: RUF009 (it is immutable)
    deadline: Deadline = NEVER


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did.

    `outcome` is `unchanged`, `deployed`, `published` (to KV), `stepped` (new code got more of the traffic), `checked`
    (nothing is to be deployed) or `held` (another run has the lease); `url` is empty where there is no workers.dev.
    """

    outcome: str
    worker_name: str
    etag: str
    previous_etag: str = ""
    rolled_back_from: str = ""
    """The state that this one replaces for as long as the CDN serves it."""
    overridden: tuple[str, ...] = ()
    """Flags that are not what their rules say."""
    share: float = 100
    """How much of the traffic the version has, in percent."""
    url: str = ""
    flag_count: int = 0
    upload_bytes: int = 0
    state_age_s: int = 0
    """How long ago the state that is live was first deployed."""
    duration_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
