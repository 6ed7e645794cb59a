"""What differs between two states: flag by flag, rule by rule, field by field, in words and as data.

Only what decides something is looked at. Client secrets are no part of it. Source: resolver state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict

from flagedge.wire import state_pb2
from sync_job.change import Change, ChangeKind, Place
from sync_job.diff_assignments import assignments, diff_assignments, in_percent, percent
from sync_job.diff_values import diff_variants, fields_in_words, plain_fields, schema
from sync_job.targets import Target, TargetReader
from sync_job.words import clipped, listed, short, shown_json

Json = Any
T = TypeVar("T")
_FLAG_STATES = {state_pb2.Flag.ACTIVE: "active", state_pb2.Flag.ARCHIVED: "archived"}


def diff_states(old: state_pb2.ResolverState, new: state_pb2.ResolverState) -> tuple[Change, ...]:
    """All changes, clients first, then flags in the new state's order and those that are gone. Pure.

    Of two things with one name the later one counts (the first one, of variants), as it does for a Worker.
    """
    return (*_diff_clients(old, new), *_FlagDiffer(old, new).diff())


# Clients


def _diff_clients(old: state_pb2.ResolverState, new: state_pb2.ResolverState) -> Iterator[Change]:
    everywhere = Place()
    clients = _by_name(old.clients), _by_name(new.clients)
    credentials = _by_name(old.client_credentials), _by_name(new.client_credentials)
    yield from everywhere.differ_in_names("client", clients, "clients")
    yield from everywhere.differ_in_names("credential", credentials, "credentials")
    for name in [name for name in clients[1] if name in clients[0]]:
        contexts = [plain_fields(each[name].managed_context) for each in clients]
        yield from everywhere.differ("managed_context", contexts, partial(_context_in_words, name))
    for name in [name for name in credentials[1] if name in credentials[0]]:
        environments = [each[name].environments for each in credentials]
        yield from everywhere.differ_in_names("environments", environments, f"environments of {name}")


def _context_in_words(client: str, was: Json, now: Json) -> str:
    return f"managed context of {client}: {fields_in_words(was, now)}"


# Flags


class _FlagDiffer:
    """Compares the flags of two states."""

    def __init__(self, old: state_pb2.ResolverState, new: state_pb2.ResolverState) -> None:
        self._old_flags, self._new_flags = _by_name(old.flags), _by_name(new.flags)
        self._old_targets, self._new_targets = TargetReader(old), TargetReader(new)

    def diff(self) -> Iterator[Change]:
        for name, flag in self._new_flags.items():
            before = self._old_flags.get(name)
            if before is None:
                yield Change(name, "", "flag", "added", None, _summary(flag), f"added, {_summary_in_words(flag)}")
            else:
                yield from self._diff_flag(before, flag)
        for name, flag in self._old_flags.items():
            if name not in self._new_flags:
                yield Change(name, "", "flag", "removed", _summary(flag), None, f"removed, {_summary_in_words(flag)}")

    def _diff_flag(self, old: state_pb2.Flag, new: state_pb2.Flag) -> Iterator[Change]:
        place = Place(new.name)
        states = [_FLAG_STATES.get(each.state, str(each.state)) for each in (old, new)]
        yield from place.differ("state", states, "{} → {}".format)
        yield from place.differ_in_names("clients", (old.clients, new.clients), "clients that see it")
        schemas = [schema(each) for each in (old, new)]
        yield from place.differ("schema", schemas, lambda was, now: f"schema: {fields_in_words(was or {}, now or {})}")
        yield from diff_variants(old, new)
        yield from self._diff_rules(place, old, new)

    def _diff_rules(self, place: Place, old: state_pb2.Flag, new: state_pb2.Flag) -> Iterator[Change]:
        olds, news = _by_name(old.rules), _by_name(new.rules)
        for position, (name, rule) in enumerate(news.items(), 1):
            if name in olds:
                yield from self._diff_rule(Place(place.flag, name), olds[name], rule)
            else:
                text = f"added as number {position}: {self._rule_in_words(rule, self._new_targets)}"
                yield Change(place.flag, name, "rule", "added", None, position, text)
        for position, (name, rule) in enumerate(olds.items(), 1):
            if name not in news:
                text = f"removed: {self._rule_in_words(rule, self._old_targets)}"
                yield Change(place.flag, name, "rule", "removed", position, None, text)
        orders = [name for name in olds if name in news], [name for name in news if name in olds]
        yield from place.differ(
            "rules.order", orders, lambda was, now: f"rules reordered: {_names(was)} → {_names(now)}"
        )

    def _rule_in_words(self, rule: state_pb2.Flag.Rule, targets: TargetReader) -> str:
        target = targets.read(rule.segment)
        who = f"segment {short(rule.segment)} ({target.text if target else 'which is not there'})"
        shares = listed(f"{label} {percent(share)}" for label, share, _ in assignments(rule).values())
        return f"{'' if rule.enabled else 'off, '}{who}, {shares or 'no assignments'}"

    def _diff_rule(self, place: Place, old: state_pb2.Flag.Rule, new: state_pb2.Flag.Rule) -> Iterator[Change]:
        if old.enabled != new.enabled:
            text = "switched on" if new.enabled else "switched off"
            yield Change(place.flag, place.rule, "enabled", "changed", old.enabled, new.enabled, text)
        yield from place.differ(
            "segment", (old.segment, new.segment), lambda was, now: f"segment {short(was)} → {short(now)}"
        )
        yield from place.differ(
            "targeting_key_selector",
            (old.targeting_key_selector, new.targeting_key_selector),
            lambda was, now: f"unit {was or 'targeting_key'} → {now or 'targeting_key'}",
        )
        yield from place.differ_in_names("environments", (old.environments, new.environments), "environments")
        yield from place.differ(
            "materialization",
            (_materialization(old), _materialization(new)),
            lambda was, now: f"sticky assignment {shown_json(was)} → {shown_json(now)}",
        )
        if old.segment == new.segment:
            yield from self._diff_segments(place, new.segment)
        yield from diff_assignments(place, old, new)

    def _diff_segments(self, place: Place, segment: str) -> Iterator[Change]:
        """The rule's segment, and those that it asks for."""
        olds, news = self._old_targets.reach(segment), self._new_targets.reach(segment)
        for name in dict.fromkeys((*news, *olds)):
            yield from _diff_targets(place, name, olds.get(name), news.get(name))


def _diff_targets(place: Place, name: str, was: Target | None, now: Target | None) -> Iterator[Change]:
    if was is None or now is None:
        kind: ChangeKind = "added" if was is None else "removed"
        target = was or now
        text = f"segment {short(name)} {'asked now' if now else 'not asked any more'}: {target.text if target else ''}"
        yield Change(place.flag, place.rule, "segment.targeting", kind, _targeting(was), _targeting(now), text)
        return
    if was.targeting != now.targeting:
        text = f"segment {short(name)}: {was.text} → {now.text}"
        if was.text == now.text:
            text = f"segment {short(name)}: {now.text} as before, but for what is too long to be shown"
        yield Change(place.flag, place.rule, "segment.targeting", "changed", was.targeting, now.targeting, text)
    if was.digest != now.digest:
        text = f"segment {short(name)}: {percent(was.share)} of all units → {percent(now.share)}"
        if was.share == now.share:
            text = f"segment {short(name)}: {percent(was.share)} of all units as before, but others"
        shares = in_percent(was.share), in_percent(now.share)
        yield Change(place.flag, place.rule, "segment.allocation", "changed", *shares, text)


def _targeting(target: Target | None) -> Json:
    return target.targeting if target else None


def _summary(flag: state_pb2.Flag) -> Json:
    return {"variants": [each.name for each in flag.variants], "rules": [each.name for each in flag.rules]}


def _summary_in_words(flag: state_pb2.Flag) -> str:
    return f"variants {_names(each.name for each in flag.variants)}, rules {_names(each.name for each in flag.rules)}"


def _materialization(rule: state_pb2.Flag.Rule) -> Json:
    return MessageToDict(rule.materialization_spec) if rule.HasField("materialization_spec") else None


def _names(names: Iterable[str]) -> str:
    return clipped(listed(short(name) for name in names)) or "none"


def _by_name(things: Iterable[T]) -> dict[str, T]:
    return {thing.name: thing for thing in things}  # type: ignore[attr-defined]
