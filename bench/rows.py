"""Log rows against answers: one entry per request, the right variants, rules and reasons, the unit, the time.

Messages are expanded here by docs/log-format.md alone, so that neither the Worker nor log_consumer checks itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.client import Exchange

CLOCK_SLACK_MS = 2


class Exposure(NamedTuple):
    """What was decided for a flag."""

    flag: str
    variant: str | None
    rule: str | None
    reason: str


@dataclass(slots=True)
class Logged:
    """What the messages tell of one request. `units` are those of its exposures with a match."""

    at_ms: int
    entry_count: int = 0
    exposures: list[Exposure] = field(default_factory=list)
    units: set[str | None] = field(default_factory=set)


def expand(messages: Iterable[str]) -> dict[str, Logged]:
    """What was logged by resolve id. Entries of a request that lies in several messages are joined."""
    found: dict[str, Logged] = {}
    for message in messages:
        _expand_message(json.loads(message), found)
    return found


def _expand_message(message: dict[str, Any], found: dict[str, Logged]) -> None:
    flags = [_name(name, "flags/") or "" for name in message["flags"]]
    rules = [
        _name(name, f"{flags[flag]}/rules/")
        for name, flag in zip(message["rules"]["rule"], message["rules"]["flag"], strict=True)
    ]
    columns = message["outcomes"]
    outcomes = [
        Exposure(
            flags[flag],
            _name(variant, f"{flags[flag]}/variants/"),
            None if rule < 0 else rules[rule],
            message["reasons"][reason],
        )
        for flag, rule, reason, variant in zip(
            columns["flag"], columns["rule"], columns["reason"], columns["variant"], strict=True
        )
    ]
    resolves = message["resolves"]
    ids = resolves["id"]
    entries = Counter(ids)
    for resolve_id, at_ms in zip(ids, resolves["at_ms"], strict=True):
        # The second half of a request that did not fit one message says the same time.
        logged = found.setdefault(resolve_id, Logged(at_ms))
        logged.entry_count = max(entries[resolve_id], logged.entry_count) + (at_ms != logged.at_ms)
    rows = message["exposures"]
    for resolve, outcome, unit in zip(rows["resolve"], rows["outcome"], rows["unit"], strict=True):
        logged = found[ids[resolve]]
        logged.exposures.append(outcomes[outcome])
        if outcomes[outcome].reason == "MATCH":
            logged.units.add(None if unit < 0 else message["units"][unit])


def _name(name: str | None, prefix: str) -> str | None:
    """A dictionary's name in full: behind a slash it stands whole."""
    if name is None:
        return None
    return name[1:] if name.startswith("/") else prefix + name


def find_problems(exchanges: Sequence[Exchange], units: Sequence[str], messages: Sequence[str]) -> list[str]:
    """What is wrong with the messages' rows, given the answers to the requests with these units."""
    logged = expand(messages)
    problems = []
    for exchange, unit in zip(exchanges, units, strict=True):
        answer = json.loads(exchange.body)
        told = logged.pop(answer["resolveId"], None)
        problem = _problem_of(told, answer, exchange, unit)
        if problem:
            problems.append(f"{answer['resolveId']}: {problem}")
    return problems + [f"{resolve_id}: logged, but not answered" for resolve_id in logged]


def _problem_of(told: Logged | None, answer: dict[str, Any], exchange: Exchange, unit: str) -> str:
    expected = sorted(
        Exposure(
            flag["flag"],
            flag.get("variant"),
            flag.get("assignmentOrigin"),
            flag["reason"].removeprefix("RESOLVE_REASON_"),
        )
        for flag in answer["resolvedFlags"]
        if flag.get("shouldApply")
    )
    if told is None:
        return "not logged" if expected else ""
    if told.entry_count != 1:
        return f"{told.entry_count} entries"
    if sorted(told.exposures, key=lambda exposure: exposure.flag) != expected:
        return "other variants than in the answer"
    if not told.units <= {unit}:
        return f"units {told.units} instead of {unit}"
    if not exchange.sent_at * 1000 - CLOCK_SLACK_MS <= told.at_ms <= exchange.answered_at * 1000 + CLOCK_SLACK_MS:
        return f"at {told.at_ms}, but sent at {exchange.sent_at} and answered at {exchange.answered_at}"
    return ""
