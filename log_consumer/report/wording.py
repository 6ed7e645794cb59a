"""Values as people read them: numbers that align, times in UTC, names without what their place says."""

from __future__ import annotations

from datetime import datetime

NOTHING = "\N{EN DASH}"
# Below it a p-value is said to be below it.
P_MIN = 1e-12
KINDS = {"client_default": "client default", "fallthrough": "passed through", "unassigned": "nobody"}


def show_count(value: float | None) -> str:
    """A whole number with its thousands apart; an expected one with a decimal."""
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def show_share(value: float | None, *, digits: int = 2) -> str:
    return NOTHING if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def show_points(value: float | None) -> str:
    """A difference of shares, with its sign, in percentage points."""
    return NOTHING if value is None else f"{100 * value:+.2f}".replace("-", "\N{MINUS SIGN}")


def show_p(value: float | None) -> str:
    if value is None:
        return NOTHING
    if value < P_MIN:
        return "< 10⁻¹²"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def show_seconds(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:,.1f} s" if value < 600 else f"{value / 3600:,.1f} h"


def show_time(value: datetime | None) -> str:
    return NOTHING if value is None else f"{value:%Y-%m-%d %H:%M}"


def show_day(value: datetime | None) -> str:
    return NOTHING if value is None else f"{value:%Y-%m-%d}"


def show_etag(value: str | None) -> str:
    """Enough of an entity tag to tell states apart."""
    return NOTHING if value is None else value.strip('"')[:12]


def shorten_flag(flag: str | None) -> str:
    return (flag or NOTHING).removeprefix("flags/")


def shorten_rule(rule: str, flag: str | None) -> str:
    return rule.removeprefix(f"{flag}/rules/")


def name_assignment(kind: str, assignment_id: str | None, flag: str | None) -> str:
    """What an assignment is called: its variant, or what it is instead of one."""
    name = (assignment_id or "").removeprefix(f"{flag}/variants/")
    if kind == "variant":
        return name or NOTHING
    return f"{KINDS.get(kind, kind)} ({name})" if name else KINDS.get(kind, kind)
