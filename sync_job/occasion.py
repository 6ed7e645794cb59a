"""Why a version was deployed: bound to the version itself, so that a run that takes over from one that died can tell.

Two tags of a script belong to it: one names the deployment record that is not in the queue yet, one the state of which
people were told that it is not deployed.
"""

from __future__ import annotations

import getpass
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

OCCASION_NAME = "DEPLOYMENT_OCCASION"
"""The binding."""
RECORD_TAG = "flagedge:record:"
TOLD_TAG = "flagedge:told:"
Trigger = Literal["schedule", "command", "webhook", "rollback", "override"]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a run was started. `actor` is who, where that is known; `why` the words that were given."""

    trigger: Trigger = "schedule"
    actor: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a version was uploaded for. `previous_etag` is of the state that was live before, "" for none."""

    record_id: str = ""
    previous_etag: str = ""
    trigger: Trigger = "schedule"
    actor: str = ""
    why: str = ""

    @property
    def record_tag(self) -> str:
        return RECORD_TAG + self.record_id

    def to_text(self) -> str:
        """What `read_occasion` reads."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)


def read_occasion(text: str) -> Occasion:
    """That of a binding; an empty one where the text is not ours."""
    try:
        return Occasion(**json.loads(text or "{}"))
    except (ValueError, TypeError):
        return Occasion()


def told_tag(etag: str, what: str) -> str:
    """The tag that says that people were told of a state, and what."""
    return f"{told_tags_of(etag)}{_digest(what)}"


def told_tags_of(etag: str) -> str:
    """How all of a state's tags begin."""
    return f"{TOLD_TAG}{_digest(etag)}:"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def find_actor() -> str:
    """The user who runs a command, "" where the system does not know."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
