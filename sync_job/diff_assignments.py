"""What differs in the assignments of a rule: who has which share of the buckets, and which of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flagedge.wire import state_pb2
from sync_job.allocations import own_buckets
from sync_job.change import Change, Place
from sync_job.words import short

Assigned = Mapping[tuple[str, int], tuple[str, float, Sequence[tuple[float, float]]]]
"""Label, share and buckets as parts of the whole, by what tells assignments apart."""


def diff_assignments(place: Place, old: state_pb2.Flag.Rule, new: state_pb2.Flag.Rule) -> Iterator[Change]:
    """What became of each assignment, and of the number of buckets."""
    olds, news = assignments(old), assignments(new)
    counts = [rule.assignment_spec.bucket_count for rule in (old, new)]
    yield from place.differ(
        "assignment.bucket_count", counts, lambda was, now: f"{was} → {now} buckets, so units fall anew"
    )
    for key, (label, share, spans) in news.items():
        if key not in olds:
            text = f"{label} added: {percent(share)}"
            yield Change(place.flag, place.rule, "assignment", "added", None, in_percent(share), text)
        elif spans != olds[key][2]:
            before = olds[key][1]
            text = f"{label}: {percent(before)} → {percent(share)}"
            if share == before:
                text = f"{label}: {percent(share)} as before, of other buckets"
            shares = in_percent(before), in_percent(share)
            yield Change(place.flag, place.rule, "assignment.ranges", "changed", *shares, text)
    for key, (label, share, _) in olds.items():
        if key not in news:
            text = f"{label} removed, which had {percent(share)}"
            yield Change(place.flag, place.rule, "assignment", "removed", in_percent(share), None, text)


def assignments(rule: state_pb2.Flag.Rule) -> Assigned:
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


def in_percent(share: float) -> float:
    """A share of 0 to 1 as a number to be shown."""
    percent = round(100 * share, 4)
    return int(percent) if percent.is_integer() else percent


def percent(share: float) -> str:
    """The same in words."""
    return f"{in_percent(share):g} %"
