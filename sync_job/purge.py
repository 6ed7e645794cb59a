"""Purging pages from Cloudflare's cache: by the beginning of their URLs, by cache tag, or everything of the zone.

A flip needs none, for other variants are another cohort: this is for pages whose origin has changed. Source: the
Cloudflare API, `POST /zones/{zone}/purge_cache`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from flagedge.errors import SettingsError
from sync_job.settings import SyncSettings
from sync_job.workers_api import WorkersApi

ITEMS_MAX = 100
"""What a request may name."""
_PREFIX = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+(?::[0-9]+)?(?:/[^*?#\s]*)?")
"""Host and path: URLs in the cache have hosts in lower case, and Cloudflare knows no wildcards."""
_TAG = re.compile(r"[!-+\--~]+")


def purge_pages(
    settings: SyncSettings, api: WorkersApi, *, prefixes: Sequence[str], tags: Sequence[str], everything: bool
) -> None:
    """Purge the zone of `CLOUDFLARE_ZONE_ID`; repeatable. Raises SettingsError before anything is purged."""
    requests = list(_requests(prefixes, tags, everything=everything))
    if not settings.zone_id:
        raise SettingsError(["CLOUDFLARE_ZONE_ID is not set (the zone whose cache is purged; its overview shows it)"])
    for request in requests:
        api.purge_cache(settings.zone_id, request)


def _requests(prefixes: Sequence[str], tags: Sequence[str], *, everything: bool) -> Iterator[dict[str, Any]]:
    if everything:
        yield {"purge_everything": True}
        return
    bare = [re.sub(r"^https?://", "", prefix) for prefix in prefixes]
    problems = [
        f"--prefix {prefix} is not a host and the beginning of a path, such as shop.example.com/shop: lower-case host, "
        "no query, no wildcard"
        for prefix, host_and_path in zip(prefixes, bare, strict=True)
        if not _PREFIX.fullmatch(host_and_path)
    ]
    problems += [
        f"--tag {tag} is not printable ASCII without spaces and commas" for tag in tags if not _TAG.fullmatch(tag)
    ]
    if problems:
        raise SettingsError(problems)
    for form, items in (("prefixes", bare), ("tags", list(tags))):
        for start in range(0, len(items), ITEMS_MAX):
            yield {form: items[start : start + ITEMS_MAX]}
