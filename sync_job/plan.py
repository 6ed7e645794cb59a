"""A compiled plan, read back for the evaluator. Source: docs/plan.md; the same as `worker/src/plan.ts`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flagedge.errors import DecodeError, FlagedgeError
from flagedge.settings import Secret
from sync_job.compiled import PLAN_FORMAT

Json = Any
AssignmentKind = Literal["variant", "default", "fallthrough", "unset", "missing"]


@dataclass(frozen=True, slots=True)
class Variant:
    """`value` is JSON text, null-filled; None for one that JSON cannot say."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the units of a rule's buckets get; `variant` where it is one."""

    assignment_id: str
    kind: AssignmentKind
    variant: Variant | None
    ranges: tuple[tuple[int, int], ...]
    """Its own, whoever owns them; only of rules that read materializations."""


@dataclass(frozen=True, slots=True)
class MaterializationSpec:
    """What a sticky rule reads and writes."""

    write: str
    read: str
    must_match: bool
    ignore_targeting: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """`expression` as in the plan; `bits` is [kind, offset, bytes, all_set]."""

    name: str
    expression: Json
    bits: Json | None


@dataclass(frozen=True, slots=True)
class Rule:
    """`selector` is as stored, empty when blank; `attribute` the path that it looks at."""

    name: str
    segment: Segment
    selector: str
    attribute: tuple[str, ...]
    bucket_count: int
    assignments: tuple[Assignment, ...] | None
    is_full: bool
    spans: tuple[tuple[int, int, int], ...]
    """Ascending and disjoint: from, up to, number of the assignment that owns it (-1 for none)."""
    materialization: MaterializationSpec | None

    @property
    def has_blank_selector(self) -> bool:
        return not self.selector


@dataclass(frozen=True, slots=True)
class Flag:
    """`schema` is JSON text, None for a flag without one."""

    name: str
    schema: str | None
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential of a client: the flags that it sees, and which of their rules hold in its environments."""

    client: str
    name: str
    secret_sha256: str
    managed_context: Mapping[str, Any]
    flags: Mapping[str, tuple[Flag, frozenset[int]]]
    """By name: the flag, and the numbers of its rules."""


@dataclass(frozen=True, slots=True)
class EvaluablePlan:
    """A plan that can be asked."""

    etag: str
    account: str
    unit_salt: str
    attributes: tuple[tuple[str, ...], ...]
    criteria: tuple[Mapping[str, Any], ...]
    segments: tuple[Segment, ...]
    credentials: tuple[Credential, ...]
    bits: bytes

    def find_credential(self, *, secret: Secret | None = None, name: str = "") -> Credential:
        """The credential with this client secret, or of this name: its own or its client's, with or without `clients/`.

        Without either, the only one there is. Raises FlagedgeError when there is none, or more than one.
        """
        found = list(self.credentials)
        if secret is not None:
            digest = hashlib.sha256(secret.reveal().encode()).hexdigest()
            found = [each for each in found if each.secret_sha256 == digest]
        if name:
            found = [each for each in found if name in {each.name, each.client, each.client.removeprefix("clients/")}]
        if len(found) == 1:
            return found[0]
        names = ", ".join(each.name for each in found or self.credentials)
        if not found:
            asked = f"named {name}" if name else "with this client secret"
            raise FlagedgeError(f"state {self.etag} has no client {asked}", hint=f"It has {names or 'none at all'}")
        raise FlagedgeError(f"state {self.etag} has {len(found)} credentials to choose from", hint=f"Name one: {names}")


def load_plan(text: str, bits: bytes) -> EvaluablePlan:
    """Read a plan's two modules. Raises DecodeError for what is no plan of the format that this version knows."""
    try:
        plan = json.loads(text)
        plan_format = plan["format"]
        if plan_format != PLAN_FORMAT:
            raise DecodeError(f"the plan's format is {plan_format}, and this version knows {PLAN_FORMAT}")
        return _read_plan(plan, bits)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DecodeError("this is not a plan", hint="Compile the state again") from error


def _read_plan(plan: Json, bits: bytes) -> EvaluablePlan:
    attributes = tuple(tuple(path) for path in plan["attributes"])
    segments = tuple(
        Segment(segment["name"], segment["expression"], segment.get("bits")) for segment in plan["segments"]
    )
    flags = [_read_flag(flag, segments, attributes) for flag in plan["flags"]]
    return EvaluablePlan(
        etag=plan["etag"],
        account=plan["account"],
        unit_salt=plan["unit_salt"],
        attributes=attributes,
        criteria=tuple(plan["criteria"]),
        segments=segments,
        credentials=tuple(_read_credential(client, flags) for client in plan["clients"]),
        bits=bits,
    )


def _read_credential(client: Json, flags: list[Flag]) -> Credential:
    views = {}
    for entry in client["flags"]:
        number, rules = (entry, None) if isinstance(entry, int) else entry
        flag = flags[number]
        views[flag.name] = flag, frozenset(range(len(flag.rules)) if rules is None else rules)
    return Credential(
        client=client["client"],
        name=client["client_credential"],
        secret_sha256=client["secret_sha256"],
        managed_context=client.get("managed_context", {}),
        flags=views,
    )


def _read_flag(flag: Json, segments: tuple[Segment, ...], attributes: tuple[tuple[str, ...], ...]) -> Flag:
    variants = [Variant(name, value) for name, value in flag["variants"]]
    rules = tuple(_read_rule(rule, variants, segments, attributes) for rule in flag["rules"])
    return Flag(flag["name"], flag.get("schema"), rules)


def _read_rule(
    rule: Json, variants: list[Variant], segments: tuple[Segment, ...], attributes: tuple[tuple[str, ...], ...]
) -> Rule:
    selector, attribute = rule.get("selector", ("", 0))
    bounds = rule.get("bounds", [])
    assignments = None
    if "assignments" in rule:
        ranges = rule.get("ranges", [[] for _ in rule["assignments"]])
        assignments = tuple(
            _read_assignment(assignment, own, variants)
            for assignment, own in zip(rule["assignments"], ranges, strict=True)
        )
    return Rule(
        name=rule["name"],
        segment=segments[rule["segment"]],
        selector=selector,
        attribute=attributes[attribute],
        bucket_count=rule.get("bucket_count", 0),
        assignments=assignments,
        is_full=rule.get("full", False),
        spans=tuple(zip(bounds, bounds[1:], rule.get("owners", []), strict=False)),
        materialization=MaterializationSpec(**rule["materialization"]) if "materialization" in rule else None,
    )


def _read_assignment(assignment: Json, ranges: list[int], variants: list[Variant]) -> Assignment:
    assignment_id, what, *name = assignment
    own = tuple(zip(ranges[::2], ranges[1::2], strict=True))
    if what == "missing":
        return Assignment(assignment_id, what, Variant(name[0], None), own)
    if not isinstance(what, int):
        return Assignment(assignment_id, what, None, own)
    return Assignment(assignment_id, "variant", variants[what], own)
