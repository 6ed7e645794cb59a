"""The pointer in KV that says which plan the Worker serves between deployments, and the tag that says so to runs.

    <HMAC-SHA-256 of what follows, in hex> \\n
    {"format": 1, "sequence": …, "plan_format": …, "account": …, "etag": …, "text": {"sha256", "size_bytes"}, …}

A plan's two parts, its text and its bitsets, lie under their digests and never change; the pointer is written when they
are there. Sequences count deployments and publications together, so of a pointer and the plan that came with a version
the later one is served. worker/src/pointer.ts reads it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from flagedge.errors import DecodeError
from flagedge.settings import Secret
from sync_job.occasion import Occasion

FORMAT = 1
KEY = "pointer"
NOTHING_PUBLISHED = "-"
"""What the key holds before a plan is published: KV remembers for a while that a key is not there."""
MAC_KEY_BYTES = 32
TAG = "flagedge:hot:"
_SCOPE = b"flagedge hot state of "
_TAG_FORM = re.compile(rf"{TAG}(\d{{1,16}}):(\d{{1,12}}):([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class PlanPart:
    """A plan's text or its bitsets, by the digest of its bytes."""

    sha256: str
    size_bytes: int


def digest_part(data: bytes) -> PlanPart:
    return PlanPart(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True, slots=True)
class Bundle:
    """The plan that was uploaded with a version; `sequence` is 0 where nothing can be published over it."""

    sequence: int = 0
    text: PlanPart = PlanPart("", 0)
    bits: PlanPart = PlanPart("", 0)

    def to_text(self) -> str:
        """What `read_bundle` reads, and the Worker."""
        return json.dumps(asdict(self), separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Published:
    """What a script's tag says: a plan was published that no version brings. Times are epoch seconds.

    `behind_since_s` is since when the plan of the live version is not what is served.
    """

    sequence: int
    behind_since_s: int
    etag: str

    def to_tag(self) -> str:
        etag = base64.urlsafe_b64encode(self.etag.encode()).decode().rstrip("=")
        return f"{TAG}{self.sequence}:{self.behind_since_s}:{etag}"


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which plan is served, until when, and what it was published for."""

    sequence: int
    published_at_s: int
    expires_at_s: int
    behind_since_s: int
    plan_format: int
    account: str
    etag: str
    text: PlanPart
    bits: PlanPart
    occasion: Occasion

    @property
    def published(self) -> Published:
        return Published(self.sequence, self.behind_since_s, self.etag)


def derive_key(key: Secret, worker_name: str) -> Secret:
    """The key of one Worker, base64: a pointer of another one's is no pointer of this one's."""
    master = base64.b64decode(key.reveal())
    derived = hmac.new(master, _SCOPE + worker_name.encode(), hashlib.sha256).digest()
    return Secret(base64.b64encode(derived).decode())


def write_pointer(pointer: Pointer, key: Secret) -> str:
    """The text to store, signed by a Worker's key."""
    content = json.dumps({"format": FORMAT, **asdict(pointer)}, separators=(",", ":"))
    return f"{_sign(content, key)}\n{content}"


def read_pointer(text: str, key: Secret) -> Pointer:
    """The pointer that a text says. Raises DecodeError for one that is not signed by the key, or of another format."""
    mac, _, content = text.partition("\n")
    if not hmac.compare_digest(mac.encode(), _sign(content, key).encode()):
        raise DecodeError("the pointer in KV is not signed by STATE_MAC_KEY")
    facts = json.loads(content)
    if facts.pop("format") != FORMAT:
        raise DecodeError("the pointer in KV has a format that this version of flagedge does not know")
    facts |= {name: PlanPart(**facts[name]) for name in ("text", "bits")}
    return replace(Pointer(**facts), occasion=Occasion(**facts["occasion"]))


def read_bundle(text: str) -> Bundle:
    """That of a binding; one without a sequence where the text is not ours."""
    try:
        facts: dict[str, Any] = json.loads(text or "{}")
        return Bundle(int(facts["sequence"]), PlanPart(**facts["text"]), PlanPart(**facts["bits"]))
    except (ValueError, TypeError, KeyError):
        return Bundle()


def read_published(tags: Sequence[str]) -> Published | None:
    """What the tags say is published; None for nothing."""
    found = [match for tag in tags if (match := _TAG_FORM.fullmatch(tag))]
    if not found:
        return None
    sequence, behind_since_s, etag = found[-1].groups()
    try:
        return Published(int(sequence), int(behind_since_s), base64.urlsafe_b64decode(etag + "==").decode())
    except (binascii.Error, UnicodeDecodeError):
        return None


def _sign(content: str, key: Secret) -> str:
    return hmac.new(base64.b64decode(key.reveal()), content.encode(), hashlib.sha256).hexdigest()
