"""Break-glass: what a flag is for everybody, whatever its rules say, until a time or until it is cleared.

They live in a plain binding of the Worker, which every run reads anyway; `override_state` makes rules of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from flagedge.errors import FlagedgeError

OVERRIDES_NAME = "FLAG_OVERRIDES"
"""The binding."""
BINDING_MAX_BYTES = 5000
OFF_ID = "off"
"""The assignment id of an override that leaves everybody with the caller's default."""


class OverrideError(FlagedgeError):
    """An override cannot be: the flag or the variant is not there, or there is no room for it."""


@dataclass(frozen=True, slots=True)
class Override:
    """Names are full ones, `variant` "" for the caller's default; times are epoch seconds, `until_s` 0 for no end."""

    flag: str
    variant: str
    why: str
    since_s: int
    until_s: int = 0
    actor: str = ""

    @property
    def rule(self) -> str:
        return rule_name(self.flag)

    def is_over(self, now_s: int) -> bool:
        return 0 < self.until_s <= now_s

    def to_text(self) -> str:
        """For people."""
        return f"{_short(self.flag)}: {self.describe()}"

    def describe(self) -> str:
        """For people, who know the flag already."""
        what = f"variant {_short(self.variant)}" if self.variant else "off, the caller's default"
        until = (
            f"until {datetime.fromtimestamp(self.until_s, UTC).isoformat()}" if self.until_s else "until it is cleared"
        )
        by = f" by {self.actor}" if self.actor else ""
        since = datetime.fromtimestamp(self.since_s, UTC).isoformat()
        return f"{what}, {until}, since {since}{by}: {self.why}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class OverrideChange:
    """What an operator wants: flags to clear (all of them for None), then one to set."""

    clear: frozenset[str] | None = frozenset()
    put: Override | None = None

    def apply(self, overrides: Iterable[Override]) -> tuple[Override, ...]:
        """The overrides after it. Raises OverrideError for a flag to clear that has none."""
        kept = {} if self.clear is None else {each.flag: each for each in overrides}
        for flag in self.clear or ():
            if kept.pop(flag, None) is None:
                names = ", ".join(map(_short, kept)) or "none"
                raise OverrideError(f"there is no override of {flag}", hint=f"Overridden are: {names}")
        if self.put is not None:
            kept.pop(self.put.flag, None)
            kept[self.put.flag] = self.put
        return tuple(kept.values())


def rule_name(flag: str) -> str:
    """The name of the rule that an override of the flag is, in answers and exposures."""
    return f"{flag}/rules/override"


def _short(name: str) -> str:
    return name.rpartition("/")[2]


# The binding


def read_overrides(text: str) -> tuple[Override, ...]:
    """Those of a binding; none where the text is not ours."""
    try:
        return tuple(Override(**entry) for entry in json.loads(text or "[]"))
    except (ValueError, TypeError):
        return ()


def write_overrides(overrides: Sequence[Override]) -> str:
    """The text that `read_overrides` reads; "" for none. Raises OverrideError where a binding could not hold it."""
    if not overrides:
        return ""
    text = json.dumps([asdict(each) for each in overrides], separators=(",", ":"), ensure_ascii=False)
    if len(text.encode()) > BINDING_MAX_BYTES:
        raise OverrideError(
            f"{len(overrides)} overrides take {len(text.encode())} bytes, and a binding holds {BINDING_MAX_BYTES}",
            hint="Clear some, or give shorter reasons",
        )
    return text
