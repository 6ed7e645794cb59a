"""Generated requests: contexts near the operands of a state's criteria, units near its bitsets.

Works on any state, made by the generator or not: what a context holds is read off the state's own criteria.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vocabulary import GARBAGE_MOMENTS, NUMBERS, SECRETS, SLOPPY_MOMENTS, TEXTS, UNITS, VERSIONS

if TYPE_CHECKING:
    from generator import Draw

    from flagedge.wire.state_pb2 import AttributeCriterion, ResolverState, TargetingValue

ABSENT: Any = object()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT_RULES = ("starts_with_rule", "ends_with_rule", "contains_rule")


class RequestGenerator:
    """Draws requests for one state."""

    def __init__(self, draw: Draw, state: ResolverState) -> None:
        self._draw = draw
        self._flags = [flag.name for flag in state.flags]
        self._secrets = [one.client_secret.secret for one in state.client_credentials] or [SECRETS[0]]
        self._selectors = sorted({rule.targeting_key_selector for flag in state.flags for rule in flag.rules})
        self._criteria: dict[str, list[AttributeCriterion]] = {}
        for segment in state.segments_no_bitsets:
            for key in sorted(segment.targeting.criteria):
                criterion = segment.targeting.criteria[key]
                if criterion.HasField("attribute"):
                    self._criteria.setdefault(criterion.attribute.attribute_name, []).append(criterion.attribute)

    def request(self) -> dict[str, Any]:
        """A request in HTTP JSON shape; numbers are floats or integers below 2^53, so its JSON text round-trips."""
        draw = self._draw
        secret = {"first": self._secrets[0], "second": self._secrets[-1], "unknown": "unknown-secret"}
        result: dict[str, Any] = {
            "flags": self._filter(),
            "clientSecret": secret[draw.option("secret")],
            "apply": draw.option("apply") == "yes",
        }
        match draw.option("evaluation context"):
            case "given":
                result["evaluationContext"] = self._context()
            case "empty":
                result["evaluationContext"] = {}
        return result

    def _filter(self) -> list[str]:
        some = [self._draw.one(self._flags)] if self._flags else []
        filters = {"all": [], "some": some, "unknown": [*some, "flags/unknown"], "duplicate": some * 2}
        return filters[self._draw.option("flags filter")]

    def _context(self) -> dict[str, Any]:
        draw = self._draw
        context: dict[str, Any] = {}
        for path, criteria in self._criteria.items():
            sort = draw.option("context value")
            value = context_value(draw, draw.one(criteria), sort)
            if sort == "literal dotted key":
                context[f"{path}.x" if "." not in path else path] = value
            else:
                _put(context, path, value)
        for selector in self._selectors:
            path = selector or "targeting_key"
            if path not in self._criteria and path != "no.such.attribute":
                _put(context, path, unit(draw))
        return context


def _put(context: dict[str, Any], path: str, value: Any) -> None:
    if value is ABSENT:
        return
    *steps, last = path.split(".")
    for step in steps:
        inner = context.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        context = inner
    context.setdefault(last, value)


def unit(draw: Draw) -> Any:
    """A value under a targeting key: mostly text that a bitset or filter of the state knows."""
    exact = {"empty": "", "huge": 1e23, "negative zero": -0.0, "null": None, "absent": ABSENT, "astral": "😀\uffff"}
    bulky = {
        "100 bytes": "x" * 100, "101 bytes": "x" * 101, "100 bytes multibyte": "é" * 50,
        "101 bytes multibyte": "é" * 50 + "x", "list": ["user-1"], "struct": {"id": "user-1"},
    }  # fmt: skip
    match draw.option("unit"):
        case "text":
            return draw.one(UNITS) if draw.chance(0.6) else f"visitor-{draw.number(0, 999_999)}"
        case "int":
            return draw.one([0, 5, -1, 123456789, 2**53 - 1, 1e16, 12345678901234567000.0])
        case "fraction":
            return draw.one([0.5, -12.75, 1e-7])
        case "bool":
            return draw.chance(0.5)
        case kind:
            return exact[kind] if kind in exact else bulky[kind]


# --- values ---------------------------------------------------------------------------------------------------------


def context_value(draw: Draw, criterion: AttributeCriterion, sort: str) -> Any:
    """A context value of that sort (an option of the table "context value") for the criterion."""
    fixed = {"null": None, "absent": ABSENT, "empty list": [], "struct": {"a": 1}, "null text": "null"}
    if sort in fixed:
        return fixed[sort]
    meets = _meeting(draw, criterion)
    match sort:
        case "boundary":
            return boundary(draw, meets)
        case "other kind":
            return other_kind(draw, meets)
        case "any":
            return (
                draw.one([draw.one(TEXTS), draw.one(VERSIONS), True]) if isinstance(meets, str) else draw.one(NUMBERS)
            )
        case "list":
            return [_meeting(draw, criterion), meets][: draw.number(1, 2)]
        case "nested list":
            return [[meets], meets] if draw.chance(0.5) else [[meets]]
        case "list with null":
            return [meets, None] if draw.chance(0.5) else [None, meets]
        case "mixed list":
            return [meets, draw.one([True, 5, {}, "5", None, []])]
    return meets


def _meeting(draw: Draw, criterion: AttributeCriterion) -> Any:
    """A value near the rule's operand, most often one that meets the rule."""
    kind = criterion.WhichOneof("rule")
    if kind in ("any_rule", "all_rule"):
        inner = getattr(criterion, kind).rule
        found = [_near(draw, inner) for _ in range(draw.number(1, 3))]
        return found if draw.chance(0.85) else found[0]
    return _near(draw, criterion)


def _near(draw: Draw, rules: Any) -> Any:
    kind = rules.WhichOneof("rule")
    if kind is None:
        return draw.one(TEXTS)
    rule = getattr(rules, kind)
    if kind in _TEXT_RULES:
        more = draw.one(["", "", "x", "é"])
        return {"starts_with_rule": rule.value + more, "ends_with_rule": more + rule.value}.get(
            kind, more + rule.value + more
        )
    match kind:
        case "eq_rule":
            return plain(draw, rule.value)
        case "set_rule":
            return plain(draw, draw.one(rule.values)) if rule.values else draw.one(TEXTS)
    ends = [getattr(rule, one) for group in ("start", "end") if (one := rule.WhichOneof(group))]
    if not ends:
        return draw.one(NUMBERS)
    return between(draw, ends)


def between(draw: Draw, ends: list[TargetingValue]) -> Any:
    """A value inside a range, or on one of its bounds."""
    kinds = {end.WhichOneof("value") for end in ends}
    if kinds == {"number_value"} and draw.chance(0.6):
        bounds = [end.number_value for end in ends]
        inside = bounds[0] / 2 + bounds[-1] / 2
        return number_form(draw, inside if math.isfinite(inside) else bounds[0])
    if kinds == {"string_value"} and draw.chance(0.4):
        return ends[0].string_value + "a"
    return plain(draw, draw.one(ends))


def plain(draw: Draw, value: TargetingValue) -> Any:
    """A context value that is the operand, in one of the forms a context can have it in."""
    match value.WhichOneof("value"):
        case None:
            return draw.one([None, None, "null", "x"])
        case "timestamp_value":
            return timestamp_form(draw, value.timestamp_value.seconds, value.timestamp_value.nanos)
        case "version_value":
            return value.version_value.version
        case "number_value":
            return number_form(draw, value.number_value)
        case "list_value":
            return [plain(draw, item) for item in value.list_value.values]
        case "bool_value":
            return value.bool_value if draw.chance(0.7) else draw.one(["true", "false", "TRUE", "True", "1", ""])
        case _:
            return value.string_value


def number_form(draw: Draw, value: float) -> Any:
    """A number as a number or as text."""
    match draw.option("number form"):
        case "text":
            return repr(value)
        case "text with exponent":
            return f"{value:.17e}"
        case "text with plus":
            return f"{value:+}"
        case "not a number":
            return draw.one(["", "five", " 5", "0x5", "1_000", "٣", "1e", "."])
    return int(value) if abs(value) < 2**53 and value == int(value) and draw.chance(0.5) and value else value


def timestamp_form(draw: Draw, seconds: int, nanos: int) -> Any:
    """A moment in one of the forms that a context can have it in."""
    match draw.option("timestamp form"):
        case "garbage":
            return draw.one(GARBAGE_MOMENTS)
        case "sloppy":
            return draw.one(SLOPPY_MOMENTS)
        case "leap second":
            return draw.one(["2024-12-31T23:59:60Z", "2024-12-31T23:59:60.5", "2024-12-31 23:59:60+00:00"])
        case "seconds":
            return seconds + draw.one([0, 0, 1, -1])
        case "milliseconds":
            return seconds * 1000 + nanos // 1_000_000
        case "fractional seconds":
            return seconds + draw.one([0.5, 0.9, 0.001])
        case form:
            return moment_text(form, seconds, nanos)


def moment_text(form: str, seconds: int, nanos: int) -> str:
    """A moment as text; what the calendar of Python does not hold becomes year 9999 or 1."""
    low, high = -62135510400, 253402214400
    moment = _EPOCH + timedelta(seconds=min(max(seconds, low), high))
    local = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    fraction = f".{min(nanos, 999_999_999):09d}".rstrip("0")
    fraction = "" if fraction == "." else fraction
    match form:
        case "offset":
            shifted = (moment + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
            return f"{shifted}{fraction}+02:00"
        case "local":
            return local
        case "space":
            return f"{local}{fraction}".replace("T", " ")
        case "fraction":
            return f"{local}{fraction or '.25'}Z"
        case "date":
            return local[:10]
    return f"{local}{fraction}Z"


def boundary(draw: Draw, value: Any) -> Any:
    """A value just beside the given one."""
    match value:
        case bool():
            return not value
        case int() | float():
            steps = [value + 1, value - 1, math.nextafter(value, math.inf), math.nextafter(value, -math.inf), -value]
            stepped = draw.one(steps)
            return float(stepped) if math.isfinite(stepped) and abs(stepped) >= 2**53 else _finite(stepped)
        case str():
            return draw.one(
                [value + "\u0000", value[:-1], value.upper(), value.lower(), value + " ", value + ".0", "\U0010ffff"]
            )
        case list():
            return [boundary(draw, item) for item in value]
    return draw.one(TEXTS)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 1.5


def other_kind(draw: Draw, value: Any) -> Any:
    """The same text or number in another kind."""
    match value:
        case bool():
            return draw.one([str(value).lower(), int(value)])
        case int() | float():
            return draw.one([repr(value), [value], bool(value)])
        case str():
            try:
                found = float(value)
            except ValueError:
                return draw.one([True, 5, [value], {"value": value}])
            return found if math.isfinite(found) else 5
        case list():
            return value[0] if value else None
    return 0
