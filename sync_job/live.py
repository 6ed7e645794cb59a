"""What is live, as the API tells it: the bindings of the Worker, and its tags.

Two tags of a script say that its bindings are not the whole truth, for those are of the version that was uploaded last:
one that a deployment is under way, one that it has a share of the traffic only. Another names the state that is served
from KV instead of theirs; others are `occasion.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sync_job.assemble import (
    ACCOUNT_NAME,
    BUNDLE_NAME,
    DIGEST_NAME,
    ETAG_NAME,
    KEYS_NAME,
    ROLLED_BACK_NAME,
    SINCE_NAME,
    VERSION_NAME,
)
from sync_job.occasion import OCCASION_NAME, RECORD_TAG, TOLD_TAG, Occasion, read_occasion
from sync_job.overrides import OVERRIDES_NAME, Override, read_overrides
from sync_job.pointer import Bundle, Published, read_bundle, read_published
from sync_job.settings import STATE_NAMESPACE
from sync_job.token_keys import TokenKey, read_keys
from sync_job.workers_api import WorkersApi

_OUR_TAGS = "flagedge:"
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
    overrides: tuple[Override, ...] = ()
    occasion: Occasion = Occasion()  # noqa: RUF009 (it is immutable)
    tags: tuple[str, ...] = ()
    bundle: Bundle = Bundle()  # noqa: RUF009
    state_namespace_id: str = ""
    """Where it looks for plans; "" for one that does not."""
    behind_since_s: int = 0
    """Since when its own plan is not what is served; 0 where it is."""

    def is_before(self, published: Published) -> bool:
        """Whether what was published is served in place of its own plan."""
        return bool(self.state_namespace_id) and published.sequence > self.bundle.sequence

    def follow(self, published: Published) -> LiveWorker:
        """What is served since the publication, which ended a rollback."""
        return replace(
            self,
            etag=published.etag,
            rolled_back_from="",
            state_since_s=published.sequence // 1000,
            behind_since_s=published.behind_since_s,
        )

    @property
    def is_under_way(self) -> bool:
        return UNDER_WAY in self.tags

    @property
    def is_stepping(self) -> bool:
        return STEPPING in self.tags

    @property
    def own_tags(self) -> list[str]:
        """The tags that are the operator's."""
        return [tag for tag in self.tags if not tag.startswith(_OUR_TAGS)]

    @property
    def lasting_tags(self) -> list[str]:
        """The tags that do not say how far a deployment has come."""
        return [tag for tag in self.tags if tag not in {UNDER_WAY, STEPPING}]

    @property
    def told_tags(self) -> list[str]:
        """The tags of what people were told."""
        return [tag for tag in self.tags if tag.startswith(TOLD_TAG)]

    @property
    def is_occasion_marked(self) -> bool:
        """Whether the script's marks are of this version: no other was about to be uploaded after it."""
        return self.occasion.record_tag in self.tags

    @property
    def is_unrecorded(self) -> bool:
        """Whether the record of what is live is still to be sent."""
        return not self.is_under_way and any(tag.startswith(RECORD_TAG) for tag in self.tags)

    @property
    def known_etag(self) -> str:
        """What the CDN served when this was deployed; as long as it does, there is no state to deploy."""
        return self.rolled_back_from or self.etag


def read_live_worker(api: WorkersApi, worker_name: str) -> LiveWorker:
    """Ask the API what was uploaded last or published since; unless a deployment is under way, that is what is live."""
    live = read_uploaded_worker(api, worker_name)
    published = read_published(live.tags)
    return live.follow(published) if published and live.is_before(published) else live


def read_uploaded_worker(api: WorkersApi, worker_name: str) -> LiveWorker:
    """Ask the API what was uploaded last, whatever was published since."""
    settings = api.get_script_settings(worker_name)
    if settings is None:
        return LiveWorker()
    return describe_worker(settings.get("bindings") or [], tags=settings.get("tags") or ())


def describe_worker(bindings: Sequence[Mapping[str, Any]], *, tags: Sequence[str] = ()) -> LiveWorker:
    """What the bindings of a version say."""
    texts = {binding["name"]: binding.get("text", "") for binding in bindings if binding["type"] == "plain_text"}
    namespaces = {binding["name"]: binding["namespace_id"] for binding in bindings if binding["type"] == "kv_namespace"}
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
        overrides=read_overrides(texts.get(OVERRIDES_NAME, "")),
        occasion=read_occasion(texts.get(OCCASION_NAME, "")),
        tags=tuple(tags),
        bundle=read_bundle(texts.get(BUNDLE_NAME, "")),
        state_namespace_id=str(namespaces.get(STATE_NAMESPACE[0], "")),
    )
