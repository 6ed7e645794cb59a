"""What is live, as the API tells it: the bindings of the Worker, and its tags.

Two tags of a script say that its bindings are not the whole truth, for those are of the version that was uploaded last:
one that a deployment is under way, one that it has a share of the traffic only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sync_job.assemble import (
    ACCOUNT_NAME,
    DIGEST_NAME,
    ETAG_NAME,
    KEYS_NAME,
    ROLLED_BACK_NAME,
    SINCE_NAME,
    VERSION_NAME,
)
from sync_job.token_keys import TokenKey, read_keys
from sync_job.workers_api import WorkersApi

UNDER_WAY = "flagedge:deploying"
"""The tag of a script from before an upload until everything after it is done."""
STEPPING = "flagedge:stepping"
"""The tag of a script whose latest version has a share of the traffic, and is to get more."""


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """What the deployed Worker says of itself, in its bindings; nothing of it is secret."""

    exists: bool = False
    etag: str = ""
    version: str = ""
    settings_digest: str = ""
    account: str = ""
    state_since_s: int = 0
    rolled_back_from: str = ""
    """Entity tag of the state that this one replaces for as long as the CDN serves it; "" if none was rolled back."""
    token_keys: tuple[TokenKey, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def is_under_way(self) -> bool:
        return UNDER_WAY in self.tags

    @property
    def is_stepping(self) -> bool:
        return STEPPING in self.tags

    @property
    def own_tags(self) -> list[str]:
        """The tags that are the operator's."""
        return [tag for tag in self.tags if tag not in {UNDER_WAY, STEPPING}]

    @property
    def known_etag(self) -> str:
        """What the CDN served when this was deployed; as long as it does, there is no state to deploy."""
        return self.rolled_back_from or self.etag


def read_live_worker(api: WorkersApi, worker_name: str) -> LiveWorker:
    """Ask the API what was uploaded last; unless a deployment is under way, that is what is live."""
    settings = api.get_script_settings(worker_name)
    if settings is None:
        return LiveWorker()
    return describe_worker(settings.get("bindings") or [], tags=settings.get("tags") or ())


def describe_worker(bindings: Sequence[Mapping[str, Any]], *, tags: Sequence[str] = ()) -> LiveWorker:
    """What the bindings of a version say."""
    texts = {binding["name"]: binding.get("text", "") for binding in bindings if binding["type"] == "plain_text"}
    secret_names = {binding["name"] for binding in bindings if binding["type"] == "secret_text"}
    return LiveWorker(
        exists=True,
        etag=texts.get(ETAG_NAME, ""),
        version=texts.get(VERSION_NAME, ""),
        settings_digest=texts.get(DIGEST_NAME, ""),
        account=texts.get(ACCOUNT_NAME, ""),
        state_since_s=int(since) if (since := texts.get(SINCE_NAME, "")).isdecimal() else 0,
        rolled_back_from=texts.get(ROLLED_BACK_NAME, ""),
        token_keys=read_keys(texts.get(KEYS_NAME, ""), secret_names),
        tags=tuple(tags),
    )
