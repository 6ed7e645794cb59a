"""Workers KV: values with metadata and expiry, and the limits a writer meets (reference: Workers KV).

The account's conditions (conditions.py) say whether one write a second and key is the limit, and for how long reads
through a binding return what they returned before, misses included, as another location would.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_edge.envelope import RefusalError

if TYPE_CHECKING:
    from local_edge.conditions import Conditions
    from local_edge.store import Store

VALUE_BYTES_LIMIT = 25 * 1024 * 1024
KEY_BYTES_LIMIT = 512
METADATA_BYTES_LIMIT = 1024
SHORTEST_TTL_S = 60
REMEMBERED_WRITES = 10_000


@dataclass(frozen=True, slots=True)
class Pair:
    """A stored value; `metadata` is JSON text, `expires_at_s` epoch seconds."""

    key: str
    value: bytes
    metadata: str | None = None
    expires_at_s: int | None = None


class Pairs:
    """The values of all namespaces."""

    def __init__(self, store: Store, conditions: Conditions) -> None:
        self._store = store
        self._conditions = conditions
        self._written_at: dict[tuple[str, str], float] = {}
        self._seen: dict[tuple[str, str], tuple[float, Pair | None]] = {}

    def get(self, namespace_id: str, key: str) -> Pair | None:
        check_key(key)
        row = self._store.db.execute(
            """select key, value, metadata, expires_at_s from pairs
               where namespace_id = ? and key = ? and (expires_at_s is null or expires_at_s > ?)""",
            (namespace_id, key, int(time.time())),
        ).fetchone()
        return Pair(*row) if row else None

    async def wait_for_edge(self) -> None:
        """What a binding's read takes, as the conditions say."""
        if self._conditions.kv_read_ms:
            await asyncio.sleep(self._conditions.kv_read_ms / 1000)

    def get_at_edge(self, namespace_id: str, key: str) -> Pair | None:
        """As `get`, but as stale as the conditions say."""
        at, stale_s = time.monotonic(), self._conditions.kv_stale_s
        if not stale_s:
            self._seen.clear()
            return self.get(namespace_id, key)
        seen = self._seen.get((namespace_id, key))
        if seen and seen[0] > at - stale_s:
            return seen[1]
        pair = self.get(namespace_id, key)
        self._seen[namespace_id, key] = (at, pair)
        return pair

    def put(self, namespace_id: str, pair: Pair) -> None:
        """Replaces value, metadata and expiry together."""
        check_key(pair.key)
        if len(pair.value) > VALUE_BYTES_LIMIT:
            raise RefusalError(413, 10046, f"value is longer than {VALUE_BYTES_LIMIT} bytes")
        if pair.metadata is not None:
            check_metadata(pair.metadata)
        self._count_write(namespace_id, pair.key)
        self._store.db.execute(
            "insert or replace into pairs (namespace_id, key, value, metadata, expires_at_s) values (?, ?, ?, ?, ?)",
            (namespace_id, pair.key, pair.value, pair.metadata, pair.expires_at_s),
        )

    def delete(self, namespace_id: str, key: str) -> None:
        check_key(key)
        self._count_write(namespace_id, key)
        self._store.db.execute("delete from pairs where namespace_id = ? and key = ?", (namespace_id, key))

    def list_keys(self, namespace_id: str, *, prefix: str, limit: int, cursor: str) -> tuple[list[dict[str, Any]], str]:
        """Up to `limit` keys after `cursor`, each {name, expiration?, metadata?: JSON text}, and the next cursor."""
        rows = self._store.db.execute(
            """select key, expires_at_s, metadata from pairs
               where namespace_id = ? and key > ? and substr(key, 1, ?) = ?
               and (expires_at_s is null or expires_at_s > ?) order by key limit ?""",
            (namespace_id, cursor, len(prefix), prefix, int(time.time()), limit + 1),
        ).fetchall()
        keys = []
        for key, expires_at_s, metadata in rows[:limit]:
            keys.append({"name": key})
            if expires_at_s is not None:
                keys[-1]["expiration"] = expires_at_s
            if metadata is not None:
                keys[-1]["metadata"] = metadata
        return keys, rows[limit - 1][0] if len(rows) > limit else ""

    def clear(self, namespace_id: str) -> None:
        self._store.db.execute("delete from pairs where namespace_id = ?", (namespace_id,))

    def _count_write(self, namespace_id: str, key: str) -> None:
        if not self._conditions.kv_write_limit:
            return
        at = time.monotonic()
        if at - self._written_at.get((namespace_id, key), float("-inf")) < 1:
            raise RefusalError(429, 10048, f"too many writes to the key {key}: one a second is the limit")
        if len(self._written_at) >= REMEMBERED_WRITES:
            self._written_at = {which: when for which, when in self._written_at.items() if at - when < 1}
        self._written_at[namespace_id, key] = at


def check_key(key: str) -> None:
    if not key or key in {".", ".."} or len(key.encode()) > KEY_BYTES_LIMIT:
        status = 414 if len(key) > KEY_BYTES_LIMIT else 400
        raise RefusalError(status, 10033, f"a key has 1 to {KEY_BYTES_LIMIT} bytes and is not . or ..")


def check_metadata(metadata: str) -> None:
    if len(metadata.encode()) > METADATA_BYTES_LIMIT:
        raise RefusalError(400, 10026, f"metadata is longer than {METADATA_BYTES_LIMIT} bytes")
    try:
        json.loads(metadata)
    except ValueError:
        raise RefusalError(400, 10026, "metadata must be JSON") from None


def read_expiry(expiration: Any, expiration_ttl: Any) -> int | None:
    """Epoch seconds from an expiry or a time to live, either as a number or its text; both at least 60 s ahead."""
    try:
        at_s = int(time.time())
        expires_at_s = (
            int(expiration)
            if expiration is not None
            else (at_s + int(expiration_ttl) if expiration_ttl is not None else None)
        )
    except (TypeError, ValueError):
        raise RefusalError(400, 10026, "expiration and expiration_ttl are whole numbers of seconds") from None
    if expires_at_s is not None and expires_at_s < at_s + SHORTEST_TTL_S:
        raise RefusalError(400, 10026, f"expiry must be at least {SHORTEST_TTL_S} s ahead")
    return expires_at_s
