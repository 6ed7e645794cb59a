"""What is served from KV: read where runs begin, laid over what the bindings of a version say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import httpx
import structlog

from flagedge.errors import DecodeError
from flagedge.settings import Secret
from sync_job.live import LiveWorker
from sync_job.pointer import KEY, Pointer, derive_key, read_pointer
from sync_job.settings import SyncSettings
from sync_job.workers_api import WorkersApi

_HEALTH_TIMEOUT_S = 10
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HotState:
    """A pointer as KV has it. `text` is None where the key is not there, `pointer` None unless it can be followed."""

    text: str | None = None
    pointer: Pointer | None = None
    is_expired: bool = False

    @property
    def sequence(self) -> int:
        """What the next one has to be above of."""
        return self.pointer.sequence if self.pointer else 0

    def lay_over(self, live: LiveWorker) -> LiveWorker:
        """What is served where a version like `live` has the traffic."""
        pointer = self.pointer
        if pointer is None or self.is_expired or not live.is_before(pointer.published):
            return live
        return replace(live.follow(pointer.published), occasion=pointer.occasion)


def read_hot_state(settings: SyncSettings, api: WorkersApi, live: LiveWorker, *, now_s: float) -> HotState:
    """The pointer in the namespace that `live` is bound to; an empty one where it is bound to none."""
    if not live.state_namespace_id or not settings.state_mac_key:
        return HotState()
    text = api.get_kv_text(live.state_namespace_id, KEY)
    try:
        pointer = read_pointer(text or "", worker_key(settings))
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        _log.info("pointer.not_followed", reason=str(error))
        return HotState(text)
    return HotState(text, pointer, pointer.expires_at_s <= now_s)


def ask_edge(url: str) -> dict[str, Any] | None:
    """What the Worker at `url` says it serves (source, etag, age_s…); None where nobody answers so.

    One isolate speaks, in one place of the world: others may have looked earlier or later.
    """
    try:
        answer = httpx.get(f"{url}/v1/health", timeout=_HEALTH_TIMEOUT_S).raise_for_status().json()
        return dict(answer["state"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None


def worker_key(settings: SyncSettings) -> Secret:
    """What signs this Worker's pointers; it is bound to it."""
    return derive_key(settings.state_mac_key, settings.worker.worker_name)
