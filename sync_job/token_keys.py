"""The keys of apply tokens on a Worker: one secret per key, the newest seals, all of them open.

A secret cannot be read back, so what is known of each key stands beside it in a plain binding: its name, its key id
(the beginning of its SHA-256; "" for one that somebody else bound) and since when it seals.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from flagedge.errors import FlagedgeError
from flagedge.settings import Secret, decode_base64

KEY_BYTES = 16
FIRST_NAME = "RESOLVE_TOKEN_ENCRYPTION_KEY"
"""The name of the official deployer's one key; later ones have `_<key id>` behind it."""


class TokenKeyError(FlagedgeError):
    """A key cannot be retired: it seals, is unknown, or its tokens may still be in use."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A bound key; `since_s` is the epoch second from which it sealed, 0 where nobody knows."""

    name: str
    kid: str = ""
    since_s: int = 0


@dataclass(frozen=True, slots=True)
class KeyChange:
    """The keys after an upload, oldest first, the last one sealing; and the secrets to bind with it."""

    keys: tuple[TokenKey, ...]
    bound: Mapping[str, Secret]


def key_id(key: Secret) -> str:
    """8 hex digits; the same four bytes that a token carries."""
    return hashlib.sha256(decode_base64(key.reveal())).hexdigest()[:8]


def read_keys(record: str, secret_names: Collection[str]) -> tuple[TokenKey, ...]:
    """The keys that a Worker has, from its record and the names of its secrets; oldest first."""
    try:
        recorded = [TokenKey(**entry) for entry in json.loads(record or "[]")]
    except (ValueError, TypeError):
        recorded = []
    bound = {name for name in secret_names if name == FIRST_NAME or name.startswith(f"{FIRST_NAME}_")}
    known = tuple(key for key in recorded if key.name in bound)
    strange = sorted(bound - {key.name for key in known})
    return tuple(TokenKey(name) for name in strange) + known


def write_keys(keys: Sequence[TokenKey]) -> str:
    """The record that `read_keys` reads."""
    return json.dumps([asdict(key) for key in keys], separators=(",", ":"))


def choose_keys(keys: Sequence[TokenKey], *, given: Secret, rotate: bool, now_s: int) -> KeyChange:
    """What to bind: the operator's key if one is given, a fresh one on rotation or where there is none.

    A given key that differs from what is bound is bound beside it, so that tokens in flight stay good.
    """
    if given:
        return _give(keys, given, now_s)
    if keys and not rotate:
        return KeyChange(tuple(keys), {})
    return _add(keys, Secret(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()), now_s)


def find_retirable(keys: Sequence[TokenKey], which: str, *, ttl_s: int, now_s: int, force: bool) -> TokenKey:
    """The key with this id or name, if no token sealed with it can still be good. Raises TokenKeyError."""
    found = next((index for index, key in enumerate(keys) if which and which in {key.kid, key.name}), None)
    if found is None:
        names = ", ".join(key.kid or key.name for key in keys) or "none"
        raise TokenKeyError(f"there is no token key {which}", hint=f"Keys are: {names}")
    if found == len(keys) - 1:
        raise TokenKeyError(f"token key {which} is the one that seals", hint="Run `sync-job keys rotate` first")
    free_at_s = keys[found + 1].since_s + ttl_s
    if now_s < free_at_s and not force:
        when = datetime.fromtimestamp(free_at_s, UTC).isoformat()
        hint = f"Wait until {when}, or use --force: those tokens cannot be applied then"
        raise TokenKeyError(f"tokens sealed with token key {which} may still be in use", hint=hint)
    return keys[found]


def _give(keys: Sequence[TokenKey], given: Secret, now_s: int) -> KeyChange:
    kid = key_id(given)
    same = next((key for key in keys if key.kid == kid), None)
    if same is None:
        return _add(keys, given, now_s)
    if same is keys[-1]:
        return KeyChange(tuple(keys), {same.name: given})
    others = tuple(key for key in keys if key is not same)
    return KeyChange((*others, TokenKey(same.name, kid, now_s)), {same.name: given})


def _add(keys: Sequence[TokenKey], key: Secret, now_s: int) -> KeyChange:
    kid = key_id(key)
    name = f"{FIRST_NAME}_{kid}" if keys else FIRST_NAME
    return KeyChange((*keys, TokenKey(name, kid, now_s)), {name: key})
