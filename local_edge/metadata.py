"""An upload's metadata: which keys there are, annotations, and the settings that belong to the script itself.

What production accepts and this edge cannot run is refused rather than left out in silence, and so is a key that
nobody knows: there it would be ignored, which hides a typing error. Source: Workers multipart upload metadata.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_edge.envelope import RefusalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_edge.bindings import Account

TAG_BYTES_LIMIT = 100
MESSAGE_BYTES_LIMIT = 1000
SCRIPT_TAGS_LIMIT = 8
ANNOTATIONS = frozenset({"workers/message", "workers/tag", "workers/alias"})
TRIGGERED_BY = "workers/triggered_by"
SCRIPT_SETTINGS: Mapping[str, Any] = {
    "logpush": False,
    "observability": {"enabled": False},
    "tags": [],
    "tail_consumers": [],
}
VERSION_SETTINGS: Mapping[str, Any] = {"limits": {}, "placement": {}, "usage_model": "standard"}
CODE_KEYS = frozenset({"main_module", "body_part", "compatibility_date", "compatibility_flags"})
BINDING_KEYS = frozenset({"bindings", "keep_bindings"})
# Understood in production, and of no effect here.
IDLE_KEYS = frozenset({"package_dependencies"})
NOT_RUN_HERE = frozenset(
    {"assets", "cache_options", "containers", "exports", "keep_assets", "migrations", "streaming_tail_consumers"}
)
KNOWN_KEYS = CODE_KEYS | BINDING_KEYS | IDLE_KEYS | {"annotations"} | SCRIPT_SETTINGS.keys() | VERSION_SETTINGS.keys()


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """10021 for a key that does not run here, or does not exist."""
    for key in metadata:
        if key in NOT_RUN_HERE:
            raise RefusalError(400, 10021, f"metadata: {key} does not run here")
        if key not in KNOWN_KEYS:
            raise RefusalError(400, 10021, f"metadata: there is no key {key!r}")
    flags = metadata.get("compatibility_flags") or []
    if not isinstance(flags, list) or not all(isinstance(flag, str) for flag in flags):
        raise RefusalError(400, 10021, "compatibility_flags is a list of names")
    if not isinstance(metadata.get("compatibility_date") or "", str):
        raise RefusalError(400, 10021, "compatibility_date is a date like 2026-10-01")


def read_annotations(annotations: Any, *, triggered_by: str) -> dict[str, str]:
    """The annotations as they are kept: a long message is cut, a long tag is a mistake."""
    sent = annotations or {}
    if not isinstance(sent, dict) or not sent.keys() <= ANNOTATIONS:
        raise RefusalError(400, 10021, f"annotations are {', '.join(sorted(ANNOTATIONS))}")
    kept = {}
    for name, text in sent.items():
        if text is None:
            continue
        if not isinstance(text, str):
            raise RefusalError(400, 10021, f"annotation {name} is a text")
        kept[name] = text
    if len(kept.get("workers/tag", "").encode()) > TAG_BYTES_LIMIT:
        raise RefusalError(400, 10021, f"workers/tag is longer than {TAG_BYTES_LIMIT} bytes")
    if "workers/message" in kept:
        kept["workers/message"] = kept["workers/message"].encode()[:MESSAGE_BYTES_LIMIT].decode(errors="ignore")
    return kept | {TRIGGERED_BY: triggered_by}


def read_script_settings(body: Mapping[str, Any], account: Account) -> dict[str, Any]:
    """Those of the unversioned settings that `body` names."""
    found = {name: body[name] for name in SCRIPT_SETTINGS if name in body}
    if not isinstance(found.get("logpush", False), bool):
        raise RefusalError(400, 10026, "logpush is a boolean")
    if "observability" in found:
        observability = found["observability"]
        if not isinstance(observability, dict) or not isinstance(observability.get("enabled"), bool):
            raise RefusalError(400, 10026, "observability is an object with the boolean enabled")
    if "tags" in found:
        found["tags"] = _read_tags(found["tags"])
    if "tail_consumers" in found:
        found["tail_consumers"] = _read_tail_consumers(found["tail_consumers"], account)
    return found


def _read_tags(tags: Any) -> list[str]:
    if not isinstance(tags or [], list) or not all(isinstance(tag, str) for tag in tags or []):
        raise RefusalError(400, 100103, "tags is a list of texts")
    if len(tags or []) > SCRIPT_TAGS_LIMIT:
        raise RefusalError(400, 100102, f"a script has at most {SCRIPT_TAGS_LIMIT} tags")
    return list(tags or [])


def _read_tail_consumers(consumers: Any, account: Account) -> list[Any]:
    if not isinstance(consumers or [], list):
        raise RefusalError(400, 10026, "tail_consumers is a list")
    for consumer in consumers or []:
        if not isinstance(consumer, dict) or not isinstance(consumer.get("service"), str):
            raise RefusalError(400, 10026, "a tail consumer is {service, environment?, namespace?}")
        if not account.has_script(consumer["service"]):
            raise RefusalError(400, 10143, f"tail consumer {consumer['service']!r} does not exist")
    return list(consumers or [])
