"""What is stored of a targeting key: the unit itself, its keyed hash, or nothing.

The hash is HMAC-SHA-256 (RFC 2104), made by DuckDB while a batch is loaded (sql/privacy/hmac.sql). There is one key for
a database: under two, a unit would count as two. So the database keeps what its keys make of a constant, by which they
are known and from which they cannot be found; a run with another key is refused.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import duckdb

from flagedge.errors import SettingsError
from flagedge.settings import Secret, decode_base64
from log_consumer.store import Store

SQL = Path(__file__).parent / "sql" / "privacy"
PLAIN, HMAC, DROP = POLICIES = ("plain", "hmac", "drop")
KEY_BYTES = 32
BLOCK_BYTES = 64  # of SHA-256
CHECKED_TEXT = "flagedge: which key is this?"


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """TARGETING_KEY_POLICY; `hash_key` is base64 of KEY_BYTES bytes, and may be there although nothing is hashed."""

    name: str = PLAIN
    hash_key: Secret = Secret("")  # noqa: RUF009 - immutable

    def hash_unit(self, unit: str) -> str:
        """What is stored of a unit under `hmac`."""
        return hmac.digest(self._key(), unit.encode(), sha256).hex()

    @property
    def key_check(self) -> str:
        """By what the database knows the key."""
        return self.hash_unit(CHECKED_TEXT)

    def _key(self) -> bytes:
        return decode_base64(self.hash_key.reveal())

    def pads(self) -> tuple[bytes, bytes]:
        """The key as it goes into the inner and the outer hash."""
        block = self._key().ljust(BLOCK_BYTES, b"\0")
        return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)


STORE_PLAIN = KeyPolicy()


def use_policy(connection: duckdb.DuckDBPyConnection, policy: KeyPolicy) -> None:
    """Let stored_unit() and stored_units() mean on this connection what the policy says."""
    if policy.name == HMAC:
        inner_pad, outer_pad = policy.pads()
        connection.execute("set variable inner_pad = $1", [inner_pad])
        connection.execute("set variable outer_pad = $1", [outer_pad])
    connection.execute((SQL / f"{policy.name}.sql").read_text(encoding="utf-8"))


def enter_key(store: Store, policy: KeyPolicy) -> None:
    """Have the database know the key that units are hashed with from now on, if they are.

    Raises SettingsError when it knows another one.
    """
    if policy.name != HMAC:
        return
    with store.transaction(merge=False) as connection:
        known = read_key_checks(connection)
        if known and policy.key_check != known[-1]:
            problem = (
                f"TARGETING_KEY_HASH_KEY is not the key that {store.database} was filled with: set that one again "
                "(or run `log-consumer accept-key`, after which every unit has two hashes)"
            )
            raise SettingsError([problem])
        if not known:
            _enter(connection, policy)


def accept_key(store: Store, policy: KeyPolicy) -> bool:
    """Go on with another key than the one before; whether it is another. Units that come again get a second hash.

    Raises SettingsError when there is no key.
    """
    if not policy.hash_key:
        raise SettingsError(["TARGETING_KEY_HASH_KEY is not set (the key to go on with)"])
    with store.transaction(merge=False) as connection:
        known = read_key_checks(connection)
        if known and policy.key_check == known[-1]:
            return False
        _enter(connection, policy)
    return True


def read_key_checks(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Of the keys that units were hashed with, the oldest first; a key that came into use again stands twice."""
    return [
        str(check) for (check,) in connection.execute("select key_check from hash_keys order by used_from").fetchall()
    ]


def _enter(connection: duckdb.DuckDBPyConnection, policy: KeyPolicy) -> None:
    connection.execute("insert into hash_keys values ($1, make_timestamp(epoch_us(now())))", [policy.key_check])
