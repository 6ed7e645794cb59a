"""The time as the database has it."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Now, in UTC without saying so, as every `timestamp` of ours."""
    return datetime.now(UTC).replace(tzinfo=None)
