"""Attributes of a visitor that the origin of pages vouches for, as a cookie that the Worker believes.

This file needs nothing but Python: import it from an installed flagedge, or copy it into the origin.

    value = sign_attributes({"plan": "pro"}, key_id="2026-01", key=KEY, host="shop.example.com")
    response.set_cookie(COOKIE, value, max_age=LIFETIME_S, secure=True, httponly=True, samesite="Lax")

`v1.<key id>.<payload>.<mac>`, the last two base64url without padding: the payload is JSON {"exp", "host",
"attributes"}, the MAC HMAC-SHA-256. What reads it is worker/src/page_signed.ts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping

COOKIE = "flag_attributes"
LIFETIME_S = 300
KEY_BYTES = 32
_LIFETIME_MAX_S = 86_400
_PAYLOAD_MAX_CHARACTERS = 4_000


def sign_attributes(
    attributes: Mapping[str, str | float | bool],
    *,
    key_id: str,
    key: bytes,
    host: str,
    lifetime_s: int = LIFETIME_S,
    now_s: float | None = None,
) -> str:
    """The value of the cookie `COOKIE` for a page's visitor.

    `key` has 32 bytes, `host` is the public host name of the pages without a port. Anybody who has the cookie has its
    attributes until it expires, so sign for minutes, and again with each answer. Raises ValueError.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"the key must have {KEY_BYTES} bytes, not {len(key)}")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key_id):
        raise ValueError("a key id has 1 to 64 of A-Z, a-z, 0-9, _ and -")
    if not 1 <= lifetime_s <= _LIFETIME_MAX_S:
        raise ValueError(f"lifetime_s must be from 1 to {_LIFETIME_MAX_S}")
    exp = int(time.time() if now_s is None else now_s) + lifetime_s
    payload = _encode(json.dumps({"exp": exp, "host": host.lower(), "attributes": dict(attributes)}).encode())
    if len(payload) > _PAYLOAD_MAX_CHARACTERS:
        raise ValueError("the attributes are too many for a cookie")
    signed = f"v1.{key_id}.{payload}"
    mac = hmac.digest(key, f"flagedge attributes {signed}".encode(), hashlib.sha256)
    return f"{signed}.{_encode(mac)}"


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
