"""What differs between two states: flag by flag, rule by rule, field by field, in words and as data.

Only what decides something is looked at. Client secrets are no part of it. Source: resolver state.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict

from flagedge.wire import state_pb2
from sync_job.allocations import own_buckets
from sync_job.fragments import schema_json
from sync_job.targets import Target, TargetReader
from sync_job.words import clipped, listed, short, shown_json

Json = Any
T = TypeVar("T")
ChangeKind = Literal["added", "removed", "changed"]
_FLAG_STATES = {state_pb2.Flag.ACTIVE: "active", state_pb2.Flag.ARCHIVED: "archived"}


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs. `flag` is "" for what concerns all flags of a client, `rule` "" for the flag as a whole.

    `old` and `new` are JSON, None where there is none; `text` says the same in words.
    """

    flag: str
    rule: str
    field: str
    change: ChangeKind
    old: Json
    new: Json
    text: str

    def to_json(self) -> dict[str, Json]:
        return asdict(self)


def diff_states(old: state_pb2.ResolverState, new: state_pb2.ResolverState) -> tuple[Change, ...]:
    """All changes, clients first, then flags in the new state's order and those that are gone. Pure.

    Of two things with one name the later one counts (the first one, of variants), as it does for a Worker.
    """
    return (*_diff_clients(old, new), *_FlagDiffer(old, new).diff())


def format_changes(changes: Iterable[Change]) -> Iterator[str]:
    """Lines for people: each flag, and below it what changed."""
    flag: str | None = None
    for change in changes:
        if change.flag != flag:
            flag = change.flag
            yield flag or "clients"
        yield f"  {f'rule {short(change.rule)}: ' if change.rule else ''}{change.text}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where changes are found."""

    flag: str = ""
    rule: str = ""

    def differ(self, field: str, values: Sequence[Json], text: Callable[[Json, Json], str]) -> Iterator[Change]:
        """One change between an old and a new value, or none where they are equal; what is empty is not there."""
        old, new = values
        if old != new:
            kind: ChangeKind = "changed" if old and new else "added" if new else "removed"
            yield Change(self.flag, self.rule, field, kind, old, new, text(old, new))

    def differ_in_names(self, field: str, values: Iterable[Iterable[str]], subject: str) -> Iterator[Change]:
        """As `differ`, for names whose order means nothing."""
        names = [sorted(set(each)) for each in values]
        return self.differ(field, names, lambda was, now: f"{subject}: {_moved(was, now)}")


def _moved(was: Sequence[str], now: Sequence[str]) -> str:
    added, removed = [name for name in now if name not in was], [name for name in was if name not in now]
    parts = [f"{listed(names)} {verb}" for names, verb in ((added, "added"), (removed, "removed")) if names]
    return ", ".join(parts)


def _by_name(things: Iterable[T]) -> dict[str, T]:
    return {thing.name: thing for thing in things}  # type: ignore[attr-defined]


# Clients


def _diff_clients(old: state_pb2.ResolverState, new: state_pb2.ResolverState) -> Iterator[Change]:
    everywhere = _Place()
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
    return f"managed context of {client}: {_fields_in_words(was, now)}"


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
        place = _Place(new.name)
        states = [_FLAG_STATES.get(each.state, str(each.state)) for each in (old, new)]
        yield from place.differ("state", states, "{} → {}".format)
        yield from place.differ_in_names("clients", (old.clients, new.clients), "clients that see it")
        schemas = [_schema(each) for each in (old, new)]
        yield from place.differ("schema", schemas, lambda was, now: f"schema: {_fields_in_words(was or {}, now or {})}")
        yield from _diff_variants(old, new)
        yield from self._diff_rules(place, old, new)

    def _diff_rules(self, place: _Place, old: state_pb2.Flag, new: state_pb2.Flag) -> Iterator[Change]:
        olds, news = _by_name(old.rules), _by_name(new.rules)
        for position, (name, rule) in enumerate(news.items(), 1):
            if name in olds:
                yield from self._diff_rule(_Place(place.flag, name), olds[name], rule)
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
        shares = listed(f"{label} {_percent(share)}" for label, share, _ in _assignments(rule).values())
        return f"{'' if rule.enabled else 'off, '}{who}, {shares or 'no assignments'}"

    def _diff_rule(self, place: _Place, old: state_pb2.Flag.Rule, new: state_pb2.Flag.Rule) -> Iterator[Change]:
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
        yield from _diff_assignments(place, old, new)

    def _diff_segments(self, place: _Place, segment: str) -> Iterator[Change]:
        """The rule's segment, and those that it asks for."""
        olds, news = self._old_targets.reach(segment), self._new_targets.reach(segment)
        for name in dict.fromkeys((*news, *olds)):
            yield from _diff_targets(place, name, olds.get(name), news.get(name))


def _diff_targets(place: _Place, name: str, was: Target | None, now: Target | None) -> Iterator[Change]:
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
        text = f"segment {short(name)}: {_percent(was.share)} of all units → {_percent(now.share)}"
        if was.share == now.share:
            text = f"segment {short(name)}: {_percent(was.share)} of all units as before, but others"
        shares = _in_percent(was.share), _in_percent(now.share)
        yield Change(place.flag, place.rule, "segment.allocation", "changed", *shares, text)


def _targeting(target: Target | None) -> Json:
    return target.targeting if target else None


def _summary(flag: state_pb2.Flag) -> Json:
    return {"variants": [each.name for each in flag.variants], "rules": [each.name for each in flag.rules]}


def _summary_in_words(flag: state_pb2.Flag) -> str:
    return f"variants {_names(each.name for each in flag.variants)}, rules {_names(each.name for each in flag.rules)}"


def _materialization(rule: state_pb2.Flag.Rule) -> Json:
    return MessageToDict(rule.materialization_spec) if rule.HasField("materialization_spec") else None


# Variants and schema


def _diff_variants(old: state_pb2.Flag, new: state_pb2.Flag) -> Iterator[Change]:
    # The first of two with one name counts.
    olds, news = (
        {each.name: plain_fields(each.value.fields) for each in reversed(flag.variants)} for flag in (old, new)
    )
    for name in [each.name for each in new.variants]:
        if name not in olds:
            text = f"variant {short(name)} added: {shown_json(news[name])}"
            yield Change(new.name, "", "variant", "added", None, {"name": name, "value": news[name]}, text)
        elif olds[name] != news[name]:
            was, now = olds[name], news[name]
            text = f"variant {short(name)}: {_fields_in_words(was, now)}"
            before, after = ({"name": name, "value": value} for value in (was, now))
            yield Change(new.name, "", "variant", "changed", before, after, text)
    for name in [each.name for each in old.variants if each.name not in news]:
        text = f"variant {short(name)} removed"
        yield Change(new.name, "", "variant", "removed", {"name": name, "value": olds[name]}, None, text)


def _schema(flag: state_pb2.Flag) -> Json:
    return json.loads(schema_json(flag.schema)).get("schema", {}) if flag.HasField("schema") else None


def _fields_in_words(old: Mapping[str, Json], new: Mapping[str, Json]) -> str:
    parts = [
        f"{key} {shown_json(old[key])} → {shown_json(new[key])}" for key in new if key in old and old[key] != new[key]
    ]
    parts += [f"{key} added ({shown_json(new[key])})" for key in new if key not in old]
    parts += [f"{key} removed" for key in old if key not in new]
    return listed(parts) or "empty as before"


def plain_fields(fields: Mapping[str, struct_pb2.Value]) -> dict[str, Json]:
    """Struct fields as plain data, by name in order; a number that JSON cannot say is text."""
    return {key: _plain(fields[key]) for key in sorted(fields)}


def _plain(value: struct_pb2.Value) -> Json:
    match value.WhichOneof("kind"):
        case "struct_value":
            return plain_fields(value.struct_value.fields)
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                return str(number)
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case None | "null_value":
            return None
        case kind:
            return getattr(value, kind)


# Assignments

Assigned = Mapping[tuple[str, int], tuple[str, float, Sequence[tuple[float, float]]]]


def _diff_assignments(place: _Place, old: state_pb2.Flag.Rule, new: state_pb2.Flag.Rule) -> Iterator[Change]:
    olds, news = _assignments(old), _assignments(new)
    counts = [rule.assignment_spec.bucket_count for rule in (old, new)]
    yield from place.differ(
        "assignment.bucket_count", counts, lambda was, now: f"{was} → {now} buckets, so units fall anew"
    )
    for key, (label, share, spans) in news.items():
        if key not in olds:
            text = f"{label} added: {_percent(share)}"
            yield Change(place.flag, place.rule, "assignment", "added", None, _in_percent(share), text)
        elif spans != olds[key][2]:
            before = olds[key][1]
            text = f"{label}: {_percent(before)} → {_percent(share)}"
            if share == before:
                text = f"{label}: {_percent(share)} as before, of other buckets"
            shares = _in_percent(before), _in_percent(share)
            yield Change(place.flag, place.rule, "assignment.ranges", "changed", *shares, text)
    for key, (label, share, _) in olds.items():
        if key not in news:
            text = f"{label} removed, which had {_percent(share)}"
            yield Change(place.flag, place.rule, "assignment", "removed", _in_percent(share), None, text)


def _assignments(rule: state_pb2.Flag.Rule) -> Assigned:
    """By what tells assignments apart: label, share and buckets as parts of the whole."""
    found: dict[tuple[str, int], tuple[str, float, Sequence[tuple[float, float]]]] = {}
    spec = rule.assignment_spec
    count = max(spec.bucket_count, 1)
    for assignment, spans in zip(spec.assignments, own_buckets(spec), strict=True):
        label = _label(assignment)
        known = f"{label} {assignment.assignment_id}"
        key = known, sum(name == known for name, _ in found)
        share = sum(high - low for low, high in spans) / count
        found[key] = label, share, [(low / count, high / count) for low, high in spans]
    return found


def _label(assignment: state_pb2.Flag.Assignment) -> str:
    match assignment.WhichOneof("assignment"):
        case "variant":
            return f"variant {short(assignment.variant.variant)}"
        case "client_default":
            return "the caller's default"
        case "fallthrough":
            return "fall through"
        case _:
            return "nothing"


# Words


def _names(names: Iterable[str]) -> str:
    return clipped(listed(short(name) for name in names)) or "none"


def _in_percent(share: float) -> float:
    percent = round(100 * share, 4)
    return int(percent) if percent.is_integer() else percent


def _percent(share: float) -> str:
    return f"{_in_percent(share):g} %"
