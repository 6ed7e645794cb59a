"""Sticky assignments of units in Cloudflare KV, where the Worker keeps them (source: worker/src/sticky.ts).

The key is `mat:<unit>:<materialization>:<rule>` with `%` and `:` of each part escaped. Where that would be too long for
KV it is `mat#<SHA-256 of mat:<unit>:<materialization>:>:<SHA-256 of the rule>`, which is found by the names of the
materializations that other keys tell of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from typing import Protocol

KEY_MAX_BYTES = 512  # of KV
KEYS_PER_WRITE = 10_000


class Keys(Protocol):
    """What is needed of Cloudflare; `flagedge.cloudflare.Cloudflare` is one."""

    def find_kv_namespace(self, title: str) -> str | None: ...

    def list_kv_keys(self, namespace_id: str, prefix: str) -> Iterator[str]: ...

    def delete_kv_keys(self, namespace_id: str, keys: Sequence[str]) -> None: ...


def find_sticky_keys(account: Keys, namespace_id: str, units: Collection[str]) -> list[str]:
    """The keys of the assignments of these units."""
    prefixes = [prefix for unit in units if len((prefix := _prefix_of(unit)).encode()) <= KEY_MAX_BYTES]
    found = [key for prefix in prefixes for key in account.list_kv_keys(namespace_id, prefix)]
    if hashed := list(account.list_kv_keys(namespace_id, "mat#")):
        names = _materializations_of(account.list_kv_keys(namespace_id, "mat:"))
        starts = tuple(_hash_prefix(f"{_prefix_of(unit)}{name}:") for unit in units for name in names)
        found += [key for key in hashed if key.startswith(starts)]
    return sorted(set(found))


def delete_sticky_keys(account: Keys, namespace_id: str, keys: Iterable[str]) -> None:
    """Delete them, however many."""
    rest = iter(keys)
    while some := list(islice(rest, KEYS_PER_WRITE)):
        account.delete_kv_keys(namespace_id, some)


def _prefix_of(unit: str) -> str:
    return f"mat:{_escape(unit)}:"


def _escape(part: str) -> str:
    return part.replace("%", "%25").replace(":", "%3A")


def _hash_prefix(prefix: str) -> str:
    return f"mat#{sha256(prefix.encode()).hexdigest()}:"


def _materializations_of(keys: Iterable[str]) -> set[str]:
    """Names, escaped as they stand in keys."""
    return {parts[2] for key in keys if len(parts := key.split(":")) == 4}
