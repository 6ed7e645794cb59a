"""Checks the flags that somebody can ask for: their variants, their rules, and what those assign."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import chain

from flagedge.wire import state_pb2
from sync_job.fields import all_new_fields, new_fields
from sync_job.findings import Finding, Found
from sync_job.fragments import has_infinity

_FLAG_STATES = frozenset(state_pb2.Flag.State.values())


def check_flags(
    state: state_pb2.ResolverState, seeing: Collection[str], found: Found, *, has_materializations: bool
) -> dict[str, dict[str, None]]:
    """Check what the clients `seeing` can ask for; by segment, the flags whose rules ask for it, in their order."""
    checker = _FlagChecker(state, found, has_materializations=has_materializations)
    checker.check(seeing)
    return checker.asking


class _FlagChecker:
    """Visits flags and their enabled rules."""

    def __init__(self, state: state_pb2.ResolverState, found: Found, *, has_materializations: bool) -> None:
        self._state = state
        self._found = found
        self._has_materializations = has_materializations
        self._segment_names = {segment.name for segment in state.segments_no_bitsets}
        self.asking: dict[str, dict[str, None]] = {}

    def check(self, seeing: Collection[str]) -> None:
        is_any_served = False
        for flag in {flag.name: flag for flag in self._state.flags}.values():
            clients = set(flag.clients).intersection(seeing)
            if clients and flag.state not in _FLAG_STATES:
                self._found.add(Finding.FLAG_STATE_UNKNOWN, f"{flag.name} (state {flag.state})")
            elif clients and flag.state == state_pb2.Flag.ACTIVE:
                is_any_served = True
                self._check_flag(flag)
        if seeing and not is_any_served:
            self._found.add(Finding.FLAGS_MISSING)

    def _check_flag(self, flag: state_pb2.Flag) -> None:
        self._refuse_new_fields(flag, new_fields(flag), all_new_fields(flag.schema))
        variants: dict[str, state_pb2.Flag.Variant] = {}
        for variant in flag.variants:
            self._refuse_new_fields(flag, new_fields(variant))
            if variants.setdefault(variant.name, variant) is not variant:
                self._found.add(Finding.VARIANT_TWICE, variant.name)
        for rule in flag.rules:
            if not rule.enabled:
                continue
            if rule.segment not in self._segment_names:
                missing = Finding.RULE_SEGMENT_MISSING if self._segment_names else Finding.SEGMENTS_MISSING
                self._found.add(missing, f"{rule.name} ({rule.segment})")
                continue
            self.asking.setdefault(rule.segment, {})[flag.name] = None
            self._refuse_new_fields(flag, all_new_fields(rule))
            self._check_rule(rule, variants)
            spec = rule.materialization_spec
            if not self._has_materializations and (spec.read_materialization or spec.write_materialization):
                self._found.add(Finding.STICKY_OFF, flag.name)

    def _check_rule(self, rule: state_pb2.Flag.Rule, variants: Mapping[str, state_pb2.Flag.Variant]) -> None:
        spec = rule.assignment_spec
        if not spec.assignments:
            self._found.add(Finding.ASSIGNMENTS_MISSING, rule.name)
        if rule.HasField("assignment_spec") and not _is_full(spec):
            if spec.bucket_count < 1:
                self._found.add(Finding.BUCKETS_MISSING, f"{rule.name} ({spec.bucket_count})")
            if "/" not in rule.segment:
                self._found.add(Finding.SEGMENT_ID_MISSING, f"{rule.name} ({rule.segment})")
        for assignment in spec.assignments:
            kind = assignment.WhichOneof("assignment")
            if kind is None:
                self._found.add(Finding.ASSIGNMENT_UNSET, rule.name)
            elif kind == "variant":
                self._check_assigned(rule, assignment, variants)

    def _check_assigned(
        self,
        rule: state_pb2.Flag.Rule,
        assignment: state_pb2.Flag.Assignment,
        variants: Mapping[str, state_pb2.Flag.Variant],
    ) -> None:
        spec, name = rule.assignment_spec, assignment.variant.variant
        is_reached = (
            _is_full(spec)
            or bool(rule.materialization_spec.read_materialization)
            or any(max(span.lower, 0) < min(span.upper, spec.bucket_count) for span in assignment.bucket_ranges)
        )
        variant = variants.get(name)
        if variant is None:
            self._found.add(
                Finding.VARIANT_MISSING if is_reached else Finding.VARIANT_MISSING_UNUSED, f"{rule.name} ({name})"
            )
        elif is_reached and has_infinity(variant, variant.value.fields):
            self._found.add(Finding.VALUE_NOT_FINITE, name)

    def _refuse_new_fields(self, flag: state_pb2.Flag, *fields: Iterable[str]) -> None:
        for field in chain(*fields):
            self._found.add(Finding.FIELD_UNKNOWN, f"{field} in {flag.name}")


def _is_full(spec: state_pb2.Flag.AssignmentSpec) -> bool:
    """Whether one assignment has all buckets in one range, so that none is looked for."""
    spans = [(span.lower, span.upper) for assignment in spec.assignments for span in assignment.bucket_ranges]
    return len(spec.assignments) == 1 and spans == [(0, spec.bucket_count)]
