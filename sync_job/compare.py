"""`sync-job diff`: two states compared, what changed and for how many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sync_job.blast import FlagImpact, measure_impact, measure_seen_impact
from sync_job.change import Change, format_changes
from sync_job.decode import DecodedState
from sync_job.diff import diff_states
from sync_job.units import SeenUnit


@dataclass(frozen=True, slots=True)
class Comparison:
    """`impacts` is on made-up units; `seen_impacts` on units out of an exposures table, None where none was given."""

    old_etag: str
    new_etag: str
    changes: Sequence[Change]
    impacts: Sequence[FlagImpact]
    seen_impacts: Sequence[FlagImpact] | None

    def to_json(self) -> dict[str, Any]:
        return {
            "old_etag": self.old_etag,
            "new_etag": self.new_etag,
            "changes": [change.to_json() for change in self.changes],
            "impacts": [impact.to_json() for impact in self.impacts],
            "seen_impacts": None if self.seen_impacts is None else [impact.to_json() for impact in self.seen_impacts],
        }

    def to_text(self) -> str:
        """For people: the shares first, by flag, then what changed."""
        lines = [f"{self.old_etag} → {self.new_etag}"]
        if not self.changes and not self.impacts:
            return f"{lines[0]}: nothing that decides has changed"
        lines += ["", *_impacts_in_words(self.impacts, "made-up")]
        if self.seen_impacts is not None:
            lines += _impacts_in_words(self.seen_impacts, "seen")
        return "\n".join([*lines, "", *format_changes(self.changes)])


def compare(
    old: tuple[str, DecodedState],
    new: tuple[str, DecodedState],
    *,
    unit_count: int = 0,
    seen: Mapping[str, Iterable[SeenUnit]] | None = None,
) -> Comparison:
    """Compare two states, each with its entity tag; `seen` are units by the flag that they were exposed to."""
    states = old[1], new[1]
    return Comparison(
        old[0],
        new[0],
        diff_states(*(each.resolver_state for each in states)),
        measure_impact(*states, unit_count=unit_count),
        None if seen is None else measure_seen_impact(*states, seen),
    )


def _impacts_in_words(impacts: Sequence[FlagImpact], units: str) -> Iterator[str]:
    yield f"another answer for, of {units} units:" if impacts else f"no flag has {units} units that it could change for"
    width = max((len(impact.flag) for impact in impacts), default=0)
    for impact in impacts:
        yield f"  {impact.flag:{width}}  {impact.to_text()}"
