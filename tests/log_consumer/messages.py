"""Builders of flag-log messages (docs/log-format.md, version 1) with keyword defaults.

A message is built from requests, each a list of decided flags, so that a test says what happened and not how it
is coded; the dictionaries and index columns come out of the builder as they come out of the Worker.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

ISOLATE = "kZ3v9Qw1xT0bN7mLc5RdEa"
AT_MS = 1_763_700_000_123

DEPLOYMENT = {
    "worker": "confidence-cloudflare-resolver",
    "outcome": "deployed",
    "reason": "",
    "trigger": "schedule",
    "actor": "",
    "why": "",
    "started_at_ms": AT_MS - 1500,
    "finished_at_ms": AT_MS,
    "previous_state_etag": '"2e19"',
    "version_id": "v2",
    "previous_version_id": "v1",
    "settings_digest": "d",
    "timings_ms": {"fetch": 80},
}
CHANGE = {
    "flag": "flags/a",
    "rule": "flags/a/rules/r",
    "field": "assignment.ranges",
    "change": "changed",
    "old": 50,
    "new": 100,
    "text": "variant on: 50 % → 100 %",
}
ALLOCATION = {
    "flag": "flags/a",
    "rule": "flags/a/rules/r",
    "segment": "segments/s",
    "targeting_key_selector": "visitor_id",
    "kind": "variant",
    "variant": "flags/a/variants/on",
    "assignment_id": "flags/a/variants/on",
    "share": 0.5,
}


@dataclass(frozen=True)
class Fallthrough:
    """One rule that was passed through."""

    rule: str = "flags/a/rules/holdout"
    segment: str = "segments/holdout"
    assignment_id: str = "holdout"
    unit: str = "visitor-17"
    selector: str = "visitor_id"


@dataclass(frozen=True)
class Decided:
    """One flag of one request: a match with a variant unless told otherwise."""

    flag: str = "flags/a"
    reason: str = "MATCH"
    rule: str = "flags/a/rules/r"
    segment: str = "segments/s"
    variant: str = "flags/a/variants/on"
    assignment_id: str = "flags/a/variants/on"
    unit: str | None = "visitor-17"
    selector: str = "visitor_id"
    fallthroughs: tuple[Fallthrough, ...] = ()
    applied_at_ms: int | None = None


@dataclass(frozen=True)
class Request:
    """One request that applied flags."""

    decided: tuple[Decided, ...] = (Decided(),)
    resolve_id: str = "F9JOaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    at_ms: int = AT_MS
    client: str = "clients/web"
    client_credential: str = "clients/web/clientCredentials/k"
    source: str = "api"
    sdk: str = "SDK_ID_JS_CONFIDENCE"
    sdk_version: str = "0.2.1"
    country: str = "SE"
    is_bot: bool = False


def decided(**changes: Any) -> Decided:
    return Decided(**changes)


def no_match(flag: str = "flags/b", reason: str = "NO_SEGMENT_MATCH", **changes: Any) -> Decided:
    return Decided(flag=flag, reason=reason, unit=None, **changes)


def request(*flags: Decided, **changes: Any) -> Request:
    return Request(decided=flags or (Decided(),), **changes)


@dataclass
class _Outcomes:
    """What was decided, in levels: flags, rules by flag, outcomes by rule. An entry is a tuple; columns come last."""

    flags: list[str | None] = field(default_factory=list)
    selectors: list[str] = field(default_factory=list)
    rules: list[tuple[Any, ...]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    outcomes: list[tuple[Any, ...]] = field(default_factory=list)

    def add_decided(self, flag: Decided) -> int:
        if flag.reason != "MATCH":
            return self._add(flag.flag, -1, flag.reason)
        rule = self._add_rule(flag.flag, flag) if flag.rule else -1
        return self._add(flag.flag, rule, "MATCH", variant=flag.variant, assignment_id=flag.assignment_id)

    def add_fallthrough(self, flag: str, passed: Fallthrough) -> int:
        rule = self._add_rule(flag, passed)
        return self._add(flag, rule, "FALLTHROUGH", assignment_id=passed.assignment_id)

    def _add(self, flag: str, rule: int, reason: str, *, variant: str = "", assignment_id: str = "") -> int:
        names = (_shorten(name, f"{flag}/variants/") for name in (variant, assignment_id))
        return _index(self.outcomes, (self._add_flag(flag), rule, _index(self.reasons, reason), *names))

    def _add_rule(self, flag: str, names: Decided | Fallthrough) -> int:
        rule, segment = _shorten(names.rule, f"{flag}/rules/"), _shorten(names.segment, "segments/")
        return _index(self.rules, (self._add_flag(flag), rule, segment, _index(self.selectors, names.selector)))

    def _add_flag(self, flag: str) -> int:
        return _index(self.flags, _shorten(flag, "flags/"))

    def dictionaries(self) -> dict[str, Any]:
        """Its keys of the message."""
        return {
            "flags": self.flags,
            "selectors": self.selectors,
            "rules": _columns(self.rules, "flag", "rule", "segment", "selector"),
            "reasons": self.reasons,
            "outcomes": _columns(self.outcomes, "flag", "rule", "reason", "variant", "assignment_id"),
        }


@dataclass
class _Columns:
    """The dictionaries and columns of a message while it is filled."""

    clients: list[Any] = field(default_factory=list)
    origins: list[Any] = field(default_factory=list)
    units: list[Any] = field(default_factory=list)
    outcomes: _Outcomes = field(default_factory=_Outcomes)
    resolves: dict[str, list[Any]] = field(default_factory=lambda: {"id": [], "at_ms": [], "origin": []})
    exposures: dict[str, list[Any]] = field(default_factory=lambda: {"resolve": [], "outcome": [], "unit": []})
    fallthroughs: dict[str, list[Any]] = field(default_factory=lambda: {"exposure": [], "outcome": [], "unit": []})
    applied_at_ms: list[int] = field(default_factory=list)
    counts: dict[tuple[int, int], int] = field(default_factory=dict)

    def add_request(self, made: Request) -> None:
        client = _index(self.clients, {"client": made.client, "client_credential": made.client_credential})
        origin = {"client": client, "source": made.source, "sdk": made.sdk, "sdk_version": made.sdk_version}
        origin |= {"country": made.country, "is_bot": made.is_bot}
        _append(self.resolves, id=made.resolve_id, at_ms=made.at_ms, origin=_index(self.origins, origin))
        for flag in made.decided:
            self.add_flag(flag, client=client, at_ms=made.at_ms)

    def add_flag(self, flag: Decided, *, client: int, at_ms: int) -> None:
        outcome = self.outcomes.add_decided(flag)
        self.count(client, outcome)
        unit = -1 if flag.unit is None else _index(self.units, flag.unit)
        _append(self.exposures, resolve=len(self.resolves["id"]) - 1, outcome=outcome, unit=unit)
        self.applied_at_ms.append(at_ms if flag.applied_at_ms is None else flag.applied_at_ms)
        for passed in flag.fallthroughs:
            outcome = self.outcomes.add_fallthrough(flag.flag, passed)
            self.count(client, outcome)
            exposure = len(self.exposures["outcome"]) - 1
            _append(self.fallthroughs, exposure=exposure, outcome=outcome, unit=_index(self.units, passed.unit))

    def count(self, client: int, outcome: int) -> None:
        self.counts[client, outcome] = self.counts.get((client, outcome), 0) + 1


def message(*requests: Request, isolate: str = ISOLATE, seq: int = 0, **changes: Any) -> dict[str, Any]:
    """A message of the given requests (one match when none is given); `changes` replace envelope keys as they are."""
    columns = _Columns()
    for made in requests or (Request(),):
        columns.add_request(made)
    exposures = dict(columns.exposures)
    if any(flag.applied_at_ms is not None for made in requests for flag in made.decided):
        exposures["applied_at_ms"] = columns.applied_at_ms
    pairs = list(columns.counts)
    built = {
        "format": "flagedge/1",
        "isolate": isolate,
        "seq": seq,
        "sent_at_ms": AT_MS + 400,
        "state_etag": '"3f2a"',
        "worker_version": "0.1.0",
        "row_count": len(columns.resolves["id"])
        + len(exposures["outcome"])
        + len(columns.fallthroughs["outcome"])
        + len(pairs),
        "dropped_count": 0,
        "clients": columns.clients,
        "origins": columns.origins,
        "units": columns.units,
        **columns.outcomes.dictionaries(),
        "resolves": columns.resolves,
        "exposures": exposures,
        "fallthroughs": columns.fallthroughs,
        "counts": {
            "client": [client for client, _ in pairs],
            "outcome": [outcome for _, outcome in pairs],
            "count": [columns.counts[pair] for pair in pairs],
        },
    }
    return built | changes


def body(*requests: Request, **changes: Any) -> str:
    """The JSON text of `message(…)`, compact as JavaScript writes it."""
    return compact(message(*requests, **changes))


def record(seq: int = 0, **changes: Any) -> str:
    """A record in one part, or the part `seq` of a longer one."""
    parts: dict[str, Any] = {
        "deployment": DEPLOYMENT if seq == 0 else None,
        "changes": [CHANGE],
        "allocations": [ALLOCATION],
    }
    parts |= {key: changes.pop(key) for key in parts if key in changes}
    row_count = sum(1 if key == "deployment" else len(part) for key, part in parts.items() if part)
    envelope = {
        "format": "flagedge/deployment/1",
        "isolate": "dQ8s0000000000000000AA",
        "seq": seq,
        "part_count": 1,
        "sent_at_ms": AT_MS,
        "state_etag": '"3f2a"',
        "worker_version": "0.1.0",
        "row_count": row_count,
        "dropped_count": 0,
    }
    return json.dumps(envelope | {key: part for key, part in parts.items() if part is not None} | changes)


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def busy_request(number: int, *, flag_count: int = 10) -> Request:
    """A typical request of a busy site: `flag_count` flags, a third unmatched, every fifth after a fall-through."""
    unit = f"visitor-{number * 2_654_435_761 % 2**32:08x}"
    flags = []
    for index in range(flag_count):
        name = f"flags/feature-{index}"
        if (number + index) % 3 == 0:
            flags.append(no_match(name))
            continue
        variant = f"{name}/variants/{('control', 'treatment')[(number + index) % 2]}"
        passed = (Fallthrough(rule=f"{name}/rules/holdout", unit=unit),) if index % 5 == 0 else ()
        rule = f"{name}/rules/rollout-{index}"
        flags.append(
            decided(flag=name, rule=rule, variant=variant, assignment_id=variant, unit=unit, fallthroughs=passed)
        )
    return request(*flags, resolve_id=f"{number:032x}", at_ms=AT_MS + number, country=("SE", "DE", "US")[number % 3])


def _index(dictionary: list[Any], value: Any) -> int:
    if value not in dictionary:
        dictionary.append(value)
    return dictionary.index(value)


def _shorten(name: str, prefix: str) -> str | None:
    """A name without what its place says; None for none."""
    if not name:
        return None
    is_short = name.startswith(prefix) and not name.startswith("/", len(prefix))
    return name.removeprefix(prefix) if is_short else f"/{name}"


def _columns(entries: list[tuple[Any, ...]], *names: str) -> dict[str, list[Any]]:
    """Entries as columns, with every column there when there is no entry."""
    return {name: [entry[i] for entry in entries] for i, name in enumerate(names)}


def _append(columns: dict[str, list[Any]], **row: Any) -> None:
    for name, value in row.items():
        columns[name].append(value)
