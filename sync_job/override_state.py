"""Overrides as rules of a state.

An override takes the place of the flag's rules before the state is compiled: one rule, `<flag>/rules/override`, that
everybody matches. So answers, tokens, exposures and shares need no second way to be told, and the official resolver
judges it with all the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from flagedge.wire import state_pb2
from sync_job.allocations import served_flags
from sync_job.change import Change, ChangeKind
from sync_job.decode import DecodedState
from sync_job.overrides import OFF_ID, Override, OverrideChange, OverrideError

OVERRIDE_FIELD = "override"
"""Of a change that is an override's."""


@dataclass(frozen=True, slots=True)
class OverriddenState:
    """A state as it was fetched, and the overrides that hold on it."""

    etag: str
    decoded: DecodedState = field(repr=False)
    overrides: tuple[Override, ...] = ()

    @property
    def effective(self) -> DecodedState:
        """What is compiled."""
        return override_state(self.decoded, self.overrides)


def find_variant(state: state_pb2.ResolverState, flag: str, variant: str) -> tuple[str, str]:
    """The full names of a flag and one of its variants ("" for none). Raises OverrideError, with near names."""
    found = {each.name: each for each in served_flags(state)}
    flag = _find(flag, "flags/", found, "no active flag that a client sees is named")
    if not variant:
        return flag, ""
    return flag, _find(
        variant, f"{flag}/variants/", [each.name for each in found[flag].variants], f"{flag} has no variant"
    )


def _find(name: str, prefix: str, known: Iterable[str], problem: str) -> str:
    full = name if name.startswith(prefix) else prefix + name
    names = [each.removeprefix(prefix) for each in known]
    if full.removeprefix(prefix) in names:
        return full
    near = get_close_matches(name, names) or names
    raise OverrideError(f"{problem} {name}", hint=f"Did you mean {' or '.join(near)}?" if near else "There are none")


def name_change(change: OverrideChange, state: state_pb2.ResolverState) -> OverrideChange:
    """The change with full names, of what the state has. Raises OverrideError."""
    if change.put is None:
        return change
    flag, variant = find_variant(state, change.put.flag, change.put.variant)
    return replace(change, put=replace(change.put, flag=flag, variant=variant))


def settle_overrides(
    overrides: Iterable[Override], state: state_pb2.ResolverState, *, now_s: int
) -> tuple[tuple[Override, ...], tuple[tuple[Override, str], ...]]:
    """Those that hold, and those that do not any more with the reason: they ended, or the state lost what they name."""
    variants = {flag.name: {each.name for each in flag.variants} for flag in served_flags(state)}
    kept, dropped = [], []
    for override in overrides:
        if override.is_over(now_s):
            dropped.append((override, "ended"))
        elif override.flag not in variants:
            dropped.append((override, "the flag is not in the state any more"))
        elif override.variant and override.variant not in variants[override.flag]:
            dropped.append((override, "the variant is not in the state any more"))
        else:
            kept.append(override)
    return tuple(kept), tuple(dropped)


def override_state(decoded: DecodedState, overrides: Sequence[Override]) -> DecodedState:
    """The state with one rule for everybody in place of each overridden flag's rules; all else as it was. Pure."""
    if not overrides:
        return decoded
    state = state_pb2.ResolverState()
    state.CopyFrom(decoded.resolver_state)
    everybody = _free_segment_name(state)
    state.segments_no_bitsets.add(name=everybody)
    by_flag = {override.flag: override for override in overrides}
    for flag in state.flags:
        if flag.name in by_flag:
            del flag.rules[:]
            flag.rules.append(_rule(by_flag[flag.name], everybody))
    return replace(decoded, resolver_state=state)


def diff_overrides(old: Iterable[Override], new: Iterable[Override]) -> tuple[Change, ...]:
    """What changed of the overrides, by flag."""
    olds, news = ({each.flag: each for each in overrides} for overrides in (old, new))
    changes = []
    for flag in dict.fromkeys((*news, *olds)):
        was, now = olds.get(flag), news.get(flag)
        if was != now:
            kind: ChangeKind = "changed" if was and now else "added" if now else "removed"
            text = f"override: {now.describe()}" if now else "override ends"
            old_json, new_json = (each.to_json() if each else None for each in (was, now))
            changes.append(Change(flag, "", OVERRIDE_FIELD, kind, old_json, new_json, text))
    return tuple(changes)


def _rule(override: Override, segment: str) -> state_pb2.Flag.Rule:
    """One assignment of all buckets, so that nobody needs a unit."""
    assignment = state_pb2.Flag.Assignment(
        assignment_id=override.variant or OFF_ID, bucket_ranges=[state_pb2.Flag.BucketRange(lower=0, upper=1)]
    )
    if override.variant:
        assignment.variant.variant = override.variant
    else:
        assignment.client_default.SetInParent()
    spec = state_pb2.Flag.AssignmentSpec(bucket_count=1, assignments=[assignment])
    return state_pb2.Flag.Rule(name=override.rule, segment=segment, enabled=True, assignment_spec=spec)


def _free_segment_name(state: state_pb2.ResolverState) -> str:
    taken = {each.name for each in state.segments_no_bitsets} | {each.segment for each in state.bitsets}
    name = "segments/override"
    while name in taken:
        name += "-"
    return name
