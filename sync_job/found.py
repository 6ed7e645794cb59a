"""What a run begins with, as it is seen inside the lease."""

from __future__ import annotations

from dataclasses import dataclass

from sync_job.archive import Archive, open_archive
from sync_job.hot_state import HotState, read_hot_state
from sync_job.live import LiveWorker, describe_worker, read_uploaded_worker
from sync_job.settings import SyncSettings
from sync_job.workers_api import Deployment, WorkersApi


@dataclass(frozen=True, slots=True)
class Found:
    """What was uploaded last, what has the traffic, by which deployment, the archive, and what KV has.

    `live` and `served` are of the state that is published where that is not the one that their version brought.
    """

    live: LiveWorker
    served: LiveWorker
    base: Deployment | None
    archive: Archive | None
    hot: HotState = HotState()  # noqa: RUF009 (it is immutable)


def look_around(settings: SyncSettings, api: WorkersApi, *, now_s: float) -> Found:
    """Ask the API for all of it."""
    name = settings.worker.worker_name
    live = read_uploaded_worker(api, name)
    base = api.get_deployment(name) if live.exists else None
    served = _find_served(api, name, live, base)
    hot = read_hot_state(settings, api, served, now_s=now_s)
    return Found(hot.lay_over(live), hot.lay_over(served), base, open_archive(settings, api), hot)


def _find_served(api: WorkersApi, name: str, live: LiveWorker, base: Deployment | None) -> LiveWorker:
    """What has the traffic; while a deployment is under way, that need not be what was uploaded last."""
    if not live.is_under_way or base is None or not base.live_version_id:
        return live
    return describe_worker(api.get_version_bindings(name, base.live_version_id))
