"""A context, and the readings of its values: numbers, timestamps and versions out of text, and text out of numbers.

Source: the official resolver's parsers, leniencies included; the same as `worker/src/context.ts` and `values.ts`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from flagedge.errors import DecodeError
from sync_job.targeting import parse_version

NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A moment; `nanos` may reach 1,999,999,999 within a leap second."""

    seconds: int
    nanos: int

    def __str__(self) -> str:
        fraction = f".{self.nanos % NANOS:09d}".rstrip("0") if self.nanos % NANOS else ""
        try:
            text = (_EPOCH + timedelta(seconds=self.seconds)).replace(tzinfo=None).isoformat()
        except OverflowError:
            return f"{self.seconds}{fraction} s after 1970"
        return f"{text[:-2] + '60' if self.nanos >= NANOS else text}{fraction}Z"


@dataclass(frozen=True, slots=True)
class Version:
    """A version: compared by its four numbers, equal by its text."""

    text: str
    parts: tuple[int, int, int, int]

    @classmethod
    def of(cls, text: str) -> Version:
        """What is no version has four zeros."""
        return cls(text, parse_version(text))


# Contexts

_DEPTH_MAX = 126


def read_context(text: str) -> dict[str, Any]:
    """A context from JSON text. Raises DecodeError."""
    try:
        # Numbers are doubles, so -0 keeps its sign, as a targeting key may be one.
        context = json.loads(text, parse_int=float, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DecodeError("the context is not JSON", hint='Write it like {"visitor_id": "v-1"}') from error
    if not isinstance(context, dict):
        raise DecodeError("the context is not a JSON object", hint='Write it like {"visitor_id": "v-1"}')
    return check_context(context)


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def check_context(context: Mapping[str, Any]) -> dict[str, Any]:
    """The context with its numbers as floats. Raises DecodeError where the Worker refuses it."""
    checked: dict[str, Any] = _check(context, 1)
    return checked


def _check(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping | list | tuple) and depth > _DEPTH_MAX:
        raise DecodeError("the context is nested too deeply")
    match value:
        case None | bool():
            return value
        case str():
            return _well_formed(value)
        case int() | float():
            return _finite(value)
        case Mapping():
            return {_well_formed(key): _check(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_check(item, depth + 1) for item in value]
        case _:
            raise DecodeError(f"the context holds a {type(value).__name__}, which JSON has not")


def _well_formed(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DecodeError("a text of the context holds a lone surrogate") from error
    return text


def _finite(number: float) -> float:
    try:
        number = float(number)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DecodeError("a number of the context is out of range")
    return number


def overlay(context: Mapping[str, Any], managed: Mapping[str, Any]) -> dict[str, Any]:
    """`managed` laid over `context`: structs merge deeply, everything else of `managed` wins, null too."""
    merged = dict(context)
    for key, value in managed.items():
        below = context.get(key)
        merged[key] = overlay(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def look_up(context: Mapping[str, Any], path: tuple[str, ...]) -> tuple[bool, Any]:
    """Whether there is a value at a path, and the value: None where there is none, as lists have no paths."""
    value: Any = context
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False, None
        value = value[key]
    return True, value


# Numbers and timestamps

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NUMBER_WORD = re.compile(r"[+-]?(?:inf|infinity|nan)", re.IGNORECASE | re.ASCII)


def parse_number(text: str) -> float | None:
    """A number from the whole of `text`. Infinities and NaN have words; overflow is infinity."""
    is_number = _NUMBER.fullmatch(text) or _NUMBER_WORD.fullmatch(text)
    return float(text) if is_number else None


def decimal_text(number: float) -> str:
    """The shortest digits that give the number back, never with an exponent: 1e21 is 1000000000000000000000."""
    text = repr(number)
    return format(Decimal(text), "f").removesuffix(".0") if "e" in text else text.removesuffix(".0")


# Timestamps

_SECONDS_MIN = -8334601228800
_SECONDS_MAX = 8210266876799
_YEAR_MIN = -262143
_YEAR_MAX = 262142

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_SPACE = "[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*"
_DATE = f"{_SPACE}([0-9]{{1,4}}|[+-][0-9]+)-{_SPACE}([0-9]{{1,2}})-{_SPACE}([0-9]{{1,2}})"
_TIME = f"{_SPACE}([0-9]{{1,2}}):{_SPACE}([0-9]{{1,2}}):{_SPACE}([0-9]{{1,2}})(?:\\.([0-9]+))?"
_LENIENT_DATE = re.compile(_DATE)
_LENIENT_TIME = re.compile(f"{_DATE}T?{_TIME}")
_SEPARATOR = re.compile("[T ]")
_OFFSET_SIGN = re.compile("[Z+-]")


def timestamp_of_number(number: float) -> Timestamp | None:
    """A number is seconds, or milliseconds from 1e12 on; its fraction is cut."""
    if not math.isfinite(number):
        return None
    whole = int(number)
    seconds, millis = divmod(whole, 1000) if abs(whole) >= 10**12 else (whole, 0)
    if not _SECONDS_MIN <= seconds <= _SECONDS_MAX:
        return None
    return Timestamp(seconds, millis * 1_000_000)


def parse_timestamp(text: str) -> Timestamp | None:
    """A timestamp from text: RFC 3339 with an offset, local date and time taken as UTC, or a date (midnight UTC)."""
    parts = _SEPARATOR.split(text, maxsplit=2)
    if len(parts) == 1:
        match = _LENIENT_DATE.fullmatch(text)
        return _moment(*match.groups()) if match else None
    if _OFFSET_SIGN.search(parts[1]):
        return _parse_rfc3339(text)
    match = _LENIENT_TIME.fullmatch(text)
    return _moment(*match.groups()) if match else None


def _parse_rfc3339(text: str) -> Timestamp | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    *local, sign, hours, minutes = match.groups()
    moment = _moment(*local)
    if moment is None or sign is None:
        return moment
    if int(hours) > 23 or int(minutes) > 59:
        return None
    offset_s = int(hours) * 3600 + int(minutes) * 60
    return Timestamp(moment.seconds + (offset_s if sign == "-" else -offset_s), moment.nanos)


def _moment(  # noqa: PLR0917  (the groups of the patterns, in their order)
    year: str, month: str, day: str, hour: str = "0", minute: str = "0", second: str = "0", fraction: str | None = None
) -> Timestamp | None:
    """Second 60 is stored as second 59 with 1,000,000,000 nanoseconds more."""
    if not _YEAR_MIN <= float(year) <= _YEAR_MAX:
        return None
    days = _days_of(int(float(year)), int(month), int(day))
    if days is None or int(hour) > 23 or int(minute) > 59 or int(second) > 60:
        return None
    nanos = int((fraction or "")[:9].ljust(9, "0"))
    is_leap = int(second) == 60
    seconds = days * 86_400 + int(hour) * 3600 + int(minute) * 60 + (59 if is_leap else int(second))
    return Timestamp(seconds, nanos + NANOS if is_leap else nanos)


_CYCLE_YEARS = 400
_CYCLE_DAYS = 146_097


def _days_of(year: int, month: int, day: int) -> int | None:
    """Days since 1970-01-01 of a proleptic Gregorian date; None when there is no such day.

    The calendar repeats itself every 400 years, so any year has a twin that Python's own calendar knows.
    """
    cycles, twin = divmod(year - 2000, _CYCLE_YEARS)
    try:
        moment = datetime(2000 + twin, month, day, tzinfo=UTC)
    except ValueError:
        return None
    return (moment - _EPOCH).days + cycles * _CYCLE_DAYS
