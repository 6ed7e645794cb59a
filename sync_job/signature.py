"""`X-Flagedge-Signature: t=<epoch seconds>,v1=<hex HMAC-SHA-256 of "<t>.<body>" by a shared secret>`.

Probes send it to the Worker, which checks it by the client secret; callers of the function URL send it to us.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from flagedge.settings import Secret

HEADER = "x-flagedge-signature"
MAX_AGE_S = 300
_FORM = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


def sign(secret: Secret, body: bytes, *, at_s: int) -> str:
    """The header's value."""
    return f"t={at_s},v1={_digest(secret, body, str(at_s))}"


def is_signed(signature: str, secret: Secret, body: bytes, *, now_s: float) -> bool:
    """Whether `signature` is a fresh one of the body by the secret; never without a secret."""
    match = _FORM.fullmatch(signature)
    if not secret or match is None or abs(now_s - int(match[1])) > MAX_AGE_S:
        return False
    return hmac.compare_digest(_digest(secret, body, match[1]), match[2])


def _digest(secret: Secret, body: bytes, at: str) -> str:
    return hmac.new(secret.reveal().encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
