"""Cuts units out of the text of a message, of our form (docs/log-format.md) or of the official Worker's.

What is left is a message again, which says of all other units what it said before. An exposure goes with the rules that
it passed through, a request with the last of its exposures; how often an outcome was decided names nobody, and stays.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

OUR_FORM = "flagedge/1"
SAYS_NOTHING = "{}"


def cut_units(text: str, units: Collection[str]) -> str:
    """The message without these units. `text` is one that landed; its key and the order of its rows stay.

    One of an odd shape that landed all the same is cut whole: it says nothing any more.
    """
    message = json.loads(text)
    try:
        if message.get("format") == OUR_FORM:
            _cut_ours(message, units)
        else:
            _cut_upstream(message, units)
    except (AttributeError, LookupError, TypeError):
        return SAYS_NOTHING
    # Half a surrogate pair, which JavaScript writes, is no text unless it is escaped.
    return json.dumps(message, ensure_ascii=True, separators=(",", ":"))


def holds_unit(text: str, units: Collection[str]) -> bool:
    """Whether a body of any form names one of them: as a string or number of its JSON, or anywhere where it is none."""
    try:
        return any(as_stored(string) in units for string in _strings_of(json.loads(text)))
    except (ValueError, RecursionError):
        return any(spelling in text for unit in units for spelling in _spell(unit))


def as_stored(unit: str) -> str:
    """A unit as the tables have it: half a surrogate pair is no text there."""
    return unit.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# --- our form --------------------------------------------------------------------------------------------------------


def _cut_ours(message: dict[str, Any], units: Collection[str]) -> None:
    exposures, fallthroughs, resolves = message["exposures"], message["fallthroughs"], message["resolves"]
    kept_units = [number for number, unit in enumerate(message["units"]) if as_stored(unit) not in units]
    known = {-1, *kept_units}
    kept_exposures = [row for row, unit in enumerate(exposures["unit"]) if unit in known]
    kept_fallthroughs = _rows_of(fallthroughs, exposure=set(kept_exposures), unit=known)
    left = {exposures["resolve"][row] for row in kept_exposures}
    emptied = set(exposures["resolve"]) - left
    kept_resolves = [row for row in range(len(resolves["id"])) if row not in emptied]
    message["row_count"] -= (
        (len(exposures["unit"]) - len(kept_exposures))
        + (len(fallthroughs["unit"]) - len(kept_fallthroughs))
        + len(emptied)
    )
    message["units"] = [message["units"][number] for number in kept_units]
    message["resolves"] = _keep(resolves, kept_resolves)
    message["exposures"] = _keep(exposures, kept_exposures, resolve=kept_resolves, unit=kept_units)
    message["fallthroughs"] = _keep(fallthroughs, kept_fallthroughs, exposure=kept_exposures, unit=kept_units)


def _rows_of(columns: Mapping[str, Sequence[int]], *, exposure: Collection[int], unit: Collection[int]) -> list[int]:
    pairs = enumerate(zip(columns["exposure"], columns["unit"], strict=True))
    return [row for row, (its_exposure, its_unit) in pairs if its_exposure in exposure and its_unit in unit]


def _keep(columns: Mapping[str, Any], rows: Sequence[int], **targets: Sequence[int]) -> dict[str, Any]:
    """The columns with these rows alone; `targets` are the rows that were kept of what a column points into."""
    kept = {name: column and [column[row] for row in rows] for name, column in columns.items()}
    for name, old_rows in targets.items():
        numbers = {old: new for new, old in enumerate(old_rows)} | {-1: -1}
        kept[name] = [numbers[old] for old in kept[name]]
    return kept


# --- upstream's form -------------------------------------------------------------------------------------------------


def _cut_upstream(message: dict[str, Any], units: Collection[str]) -> None:
    kept = []
    for request in message.get("flagAssigned") or ():
        before = request.get("flags") or ()
        request["flags"] = _without(before, units)
        for applied in request["flags"]:
            if passed := applied.get("fallthroughAssignments"):
                applied["fallthroughAssignments"] = _without(passed, units)
        if request["flags"] or not before:
            kept.append(request)
    if kept or "flagAssigned" in message:
        message["flagAssigned"] = kept


def _without(entries: Sequence[dict[str, Any]], units: Collection[str]) -> list[dict[str, Any]]:
    return [entry for entry in entries if as_stored(entry.get("targetingKey") or "") not in units]


# --- any form --------------------------------------------------------------------------------------------------------


def _strings_of(document: Any) -> Iterator[str]:
    """Every string, number and key, also of JSON that is the string of another: the official Worker's body is such."""
    match document:
        case str():
            yield document
            if document.lstrip()[:1] in {"{", "[", '"'}:
                yield from _strings_inside(document)
        case list():
            for each in document:
                yield from _strings_of(each)
        case dict():
            for key, value in document.items():
                yield key
                yield from _strings_of(value)
        case int() | float():
            yield str(document)


def _strings_inside(text: str) -> Iterator[str]:
    try:
        inner = json.loads(text)
    except ValueError:
        return
    yield from _strings_of(inner)


def _spell(unit: str) -> set[str]:
    """As it may stand in a text: as it is, in JSON, and in JSON inside JSON, with and without escapes."""
    spellings = {unit}
    for _ in range(2):
        spellings |= {json.dumps(each, ensure_ascii=is_ascii)[1:-1] for each in spellings for is_ascii in (True, False)}
    return spellings
