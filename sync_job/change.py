"""A change between two states: one field of a flag or a rule, as data and in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sync_job.words import listed, short

Json = Any
ChangeKind = Literal["added", "removed", "changed"]


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


def format_changes(changes: Iterable[Change]) -> Iterator[str]:
    """Lines for people: each flag, and below it what changed."""
    flag: str | None = None
    for change in changes:
        if change.flag != flag:
            flag = change.flag
            yield flag or "clients"
        yield f"  {f'rule {short(change.rule)}: ' if change.rule else ''}{change.text}"


@dataclass(frozen=True, slots=True)
class Place:
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
