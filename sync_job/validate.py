"""What must be true of a decoded state before it may replace the live one.

A state that is unusual but resolves exactly as the official resolver would is accepted; where an operator would want
to know, with a note. Refused is what the Worker would understand in part only, and what the official resolver fails on:

  new      a field that this version does not know in a message that decides something (flags, segments, bitsets, bloom
           filters and all below them), an unknown flag state or bloom filter strategy. The official resolver skips
           what it does not know; a newer Confidence may mean something by it.
  damaged  what Confidence's own API would not have let pass, and the official resolver errs or fails to load on.
  foreign  a state without the client that it was fetched for, or of another account.

Only what can be asked for counts: active flags that a credential sees, their enabled rules, the segments behind those,
and the criteria that their expressions name. Fields that no resolver reads (names, labels, times, identities) are
passed over where they are known to be such; on a message that decides nothing a new field is noted.
`findings.Finding` is the table of all decisions. Source: resolver state, evaluation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from google.protobuf import struct_pb2
from google.protobuf.message import Message

from flagedge.errors import DecodeError
from flagedge.settings import Secret
from flagedge.wire import state_pb2
from sync_job.bitsets import gunzip_strictly
from sync_job.decode import NO_SECRET, DecodedState, digest_secret
from sync_job.fields import all_new_fields, allocated_share, new_fields
from sync_job.findings import ISOLATE_MAX_BYTES, WORKER_MAX_BYTES, Finding, Found, Note
from sync_job.fragments import NotFiniteError, struct_json

if TYPE_CHECKING:
    from sync_job.assemble import Upload

_FLAG_STATES = frozenset(state_pb2.Flag.State.values())
_NO_BITSET = state_pb2.PackedBitset()
_BLOOM_STRATEGY = 1  # MURMUR128_MITZ_64
_INFINITE_DOUBLE = re.compile(rb"\x11.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)  # a Value's field 2, all exponent bits set
# Measured in workerd's heap, all flags in use: 2.8 to 4.1 bytes live and up to 5.5 held for a byte of the plan's text.
_HEAP_PER_TEXT_BYTE = 5
_HEAP_BASE_BYTES = 5_000_000


def validate_state(
    decoded: DecodedState,
    *,
    client_secret: Secret,
    live_account: str = "",
    accept: Collection[Finding] = (),
    has_materializations: bool = True,
) -> tuple[Note, ...]:
    """Notes on a state that may be deployed. Raises StateError, with every reason, for one that may not. Pure.

    `client_secret` and `live_account` may be empty where they are not known. What is in `accept` is noted instead of
    refused: the account may then change, what is new is skipped, what is damaged makes its flag err, alone.
    `has_materializations` says whether sticky assignments are on.
    """
    found = Found()
    if live_account and decoded.account != live_account:
        found.add(Finding.ACCOUNT_CHANGED, f"{live_account} → {decoded.account}")
    seeing = _check_clients(decoded.resolver_state, client_secret, found)
    _Walk(decoded.resolver_state, found, has_materializations=has_materializations).run(seeing)
    return found.judge(accept)


def check_upload_size(upload: Upload, *, accept: Collection[Finding] = ()) -> tuple[Note, ...]:
    """Notes on an upload that takes more than half of what the platform has. Raises StateError if it takes more.

    An isolate holds the plan's text parsed, which is several times its size, and every other module as it is. One that
    is more than half full has no room for a second plan while one replaces the other.
    """
    found = Found()
    text_bytes = sum(len(module.content) for module in upload.modules if module.content_type == "text/plain")
    heap_bytes = _HEAP_BASE_BYTES + upload.size_bytes + (_HEAP_PER_TEXT_BYTE - 1) * text_bytes
    for size_bytes, most_bytes, too_large, large in (
        (upload.size_bytes, WORKER_MAX_BYTES, Finding.WORKER_TOO_LARGE, Finding.WORKER_LARGE),
        (heap_bytes, ISOLATE_MAX_BYTES, Finding.ISOLATE_TOO_LARGE, Finding.ISOLATE_LARGE),
    ):
        if 2 * size_bytes > most_bytes:
            found.add(too_large if size_bytes > most_bytes else large, f"{size_bytes} bytes")
    return found.judge(accept)


# Clients


def _check_clients(state: state_pb2.ResolverState, client_secret: Secret, found: Found) -> set[str]:
    """Check clients and credentials; the names of the clients that have a secret."""
    for client in state.clients:
        if _has_infinity(client, client.managed_context):
            found.add(Finding.CONTEXT_NOT_FINITE, client.name)
    for message in (state, *state.clients, *state.client_credentials):
        for field in new_fields(message):
            found.add(Finding.FIELD_UNREAD, field)
    owners = _secret_owners(state, found)
    if not any(owners):
        found.add(Finding.SECRET_MISSING)
    elif client_secret and digest_secret(client_secret.reveal()) not in owners:
        found.add(Finding.SECRET_UNKNOWN)
    return {client for client, _ in owners.values()}


def _secret_owners(state: state_pb2.ResolverState, found: Found) -> dict[str, tuple[str, str]]:
    """Client and credential by digest of a secret; a later credential takes a secret from an earlier one."""
    owners: dict[str, tuple[str, str]] = {}
    secrets = [credential for credential in state.client_credentials if credential.HasField("client_secret")]
    for client in state.clients:
        for credential in secrets:
            if credential.name.startswith(client.name + "/"):
                secret, owner = credential.client_secret.secret, (client.name, credential.name)
                if owners.get(secret, owner) != owner:
                    found.add(Finding.SECRET_TWICE, f"{owners[secret][1]} ({credential.name})")
                owners[secret] = owner
    clients = {client.name for client in state.clients}
    for credential in secrets:
        if credential.client_secret.secret == NO_SECRET:
            found.add(Finding.SECRET_EMPTY, credential.name)
        if "/".join(credential.name.split("/")[:2]) not in clients:
            found.add(Finding.CREDENTIAL_LOST, credential.name)
    return owners


# Flags and segments


class _Walk:
    """Visits what can be asked for: flags that somebody sees, their rules, the segments behind these."""

    def __init__(self, state: state_pb2.ResolverState, found: Found, *, has_materializations: bool) -> None:
        self._state = state
        self._found = found
        self._has_materializations = has_materializations
        self._segments = {segment.name: segment for segment in state.segments_no_bitsets}
        # A filter that nobody understands stands only where there is no other.
        blooms = sorted(state.bloom_filters, key=lambda bloom: bloom.strategy == _BLOOM_STRATEGY)
        self._blooms = {bloom.materialized_segment: bloom for bloom in blooms}
        self._asked: dict[str, None] = {}
        # Who asks for a segment: flags by their rules, segments by their criteria.
        self._flags: dict[str, dict[str, None]] = {}
        self._parents: dict[str, list[str]] = {}
        # What was found on a segment and is to be told with the flags that ask for it.
        self._pending: list[tuple[Finding, str, str]] = []

    def run(self, seeing: Collection[str]) -> None:
        """Check what the clients `seeing` can ask for."""
        for things in (self._state.flags, self._state.segments_no_bitsets, self._state.clients):
            for name in _twice(thing.name for thing in things):
                self._found.add(Finding.NAME_TWICE, name)
        self._check_flags(seeing)
        self._check_segments()
        self._check_bitsets()
        for finding, segment, what in self._pending:
            behind = self._flags_behind(segment)
            names = behind if finding is Finding.STICKY_OFF else [f"{what} in {segment} ({_listed(behind)})"]
            self._found.add(finding, *names)

    # Flags

    def _check_flags(self, seeing: Collection[str]) -> None:
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
            if rule.segment not in self._segments:
                missing = Finding.RULE_SEGMENT_MISSING if self._segments else Finding.SEGMENTS_MISSING
                self._found.add(missing, f"{rule.name} ({rule.segment})")
                continue
            self._flags.setdefault(rule.segment, {})[flag.name] = None
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
        elif is_reached and _has_infinity(variant, variant.value.fields):
            self._found.add(Finding.VALUE_NOT_FINITE, name)

    def _refuse_new_fields(self, flag: state_pb2.Flag, *fields: Iterable[str]) -> None:
        for field in chain(*fields):
            self._found.add(Finding.FIELD_UNKNOWN, f"{field} in {flag.name}")

    # Segments

    def _check_segments(self) -> None:
        """Check the segments of the rules and all that these lead to."""
        waiting = list(self._flags)
        while waiting:
            segment = self._segments[waiting.pop()]
            if segment.name in self._asked:
                continue
            self._asked[segment.name] = None
            self._put_off_new_fields(segment.name, new_fields(segment))
            for name in self._check_targeting(segment):
                self._parents.setdefault(name, []).append(segment.name)
                waiting.append(name)

    def _check_targeting(self, segment: state_pb2.Segment) -> Iterator[str]:
        """Check a segment's targeting; the names of the segments that it asks for."""
        targeting = segment.targeting
        self._put_off_new_fields(segment.name, new_fields(targeting))
        if not targeting.HasField("expression"):
            if targeting.criteria:
                self._found.add(Finding.EXPRESSION_MISSING, segment.name)
            return
        self._put_off_new_fields(segment.name, all_new_fields(targeting.expression))
        for ref in dict.fromkeys(_refs(targeting.expression)):
            if ref is None:
                self._found.add(Finding.EXPRESSION_UNSET, segment.name)
            elif ref not in targeting.criteria:
                self._found.add(Finding.CRITERION_MISSING, f"{segment.name} ({ref})")
            else:
                yield from self._check_criterion(segment.name, ref, targeting.criteria[ref])

    def _check_criterion(self, segment: str, ref: str, criterion: state_pb2.Criterion) -> Iterator[str]:
        self._put_off_new_fields(segment, all_new_fields(criterion))
        match criterion.WhichOneof("criterion"):
            case "attribute":
                if not _is_understood(criterion.attribute):
                    self._found.add(
                        Finding.CRITERION_NOT_UNDERSTOOD, f"{segment} ({criterion.attribute.attribute_name})"
                    )
            case "segment":
                name = criterion.segment.segment
                if name in self._segments:
                    yield name
                else:
                    self._found.add(Finding.SEGMENT_MISSING, f"{segment} ({name})")
            case "materialized_segment":
                self._check_materialized(segment, criterion.materialized_segment.materialized_segment)
            case _:
                self._found.add(Finding.CRITERION_UNSET, f"{segment} ({ref})")

    def _check_materialized(self, segment: str, name: str) -> None:
        bloom = self._blooms.get(name)
        if bloom is None:
            if not self._has_materializations:
                self._pending.append((Finding.STICKY_OFF, segment, name))
            return
        self._put_off_new_fields(segment, new_fields(bloom))
        if bloom.strategy != _BLOOM_STRATEGY:
            self._pending.append((Finding.BLOOM_STRATEGY_UNKNOWN, segment, f"{name} (strategy {bloom.strategy})"))
        elif bloom.hash_function_count > 0 and bloom.bit_count < 1:
            self._found.add(Finding.BLOOM_BITS_MISSING, name)
        elif bloom.hash_function_count > 0 and bloom.bit_count > 8 * len(bloom.data):
            self._found.add(Finding.BLOOM_CUT_SHORT, name)

    def _put_off_new_fields(self, segment: str, fields: Iterable[str]) -> None:
        self._pending += [(Finding.FIELD_UNKNOWN, segment, field) for field in fields]

    def _flags_behind(self, segment: str) -> list[str]:
        """The flags that ask for a segment, directly or through others."""
        waiting, seen = [segment], {segment}
        flags: dict[str, None] = {}
        while waiting:
            name = waiting.pop()
            flags |= self._flags.get(name, {})
            parents = [parent for parent in self._parents.get(name, []) if parent not in seen]
            seen.update(parents)
            waiting += parents
        return list(flags)

    # Bitsets

    def _check_bitsets(self) -> None:
        for name in _twice(bitset.segment for bitset in self._state.bitsets):
            self._found.add(Finding.BITSET_TWICE, name)
        bitsets = {bitset.segment: bitset for bitset in self._state.bitsets}
        for name, bitset in bitsets.items():
            kind = bitset.WhichOneof("bitset")
            if kind == "full_bitset" and not bitset.full_bitset:
                self._found.add(Finding.BITSET_DAMAGED, f"bitset of {name} is marked as not full and holds nothing")
            elif kind == "gzipped_bitset":
                try:
                    gunzip_strictly(bitset.gzipped_bitset, segment=name)
                except DecodeError as error:
                    self._found.add(Finding.BITSET_DAMAGED, error.message)
        for name in self._asked:
            found = bitsets.get(name, _NO_BITSET)
            self._put_off_new_fields(name, new_fields(found))
            if found.WhichOneof("bitset") is None and allocated_share(self._segments[name]) < 1:
                self._found.add(Finding.BITSET_MISSING, name)


# Messages


def _is_full(spec: state_pb2.Flag.AssignmentSpec) -> bool:
    """Whether one assignment has all buckets in one range, so that none is looked for."""
    spans = [(span.lower, span.upper) for assignment in spec.assignments for span in assignment.bucket_ranges]
    return len(spec.assignments) == 1 and spans == [(0, spec.bucket_count)]


def _refs(expression: state_pb2.Expression) -> Iterator[str | None]:
    """The criteria that an expression names; None for a part of no kind."""
    match expression.WhichOneof("expression"):
        case "ref":
            yield expression.ref
        case "not":
            yield from _refs(getattr(expression, "not"))
        case "and" | "or" as kind:
            for operand in getattr(expression, kind).operands:
                yield from _refs(operand)
        case _:
            yield None


def _is_understood(rules: state_pb2.AttributeCriterion | state_pb2.InnerRule) -> bool:
    match rules.WhichOneof("rule"):
        case "any_rule" | "all_rule" as kind:
            outer = getattr(rules, kind)
            return outer.HasField("rule") and _is_understood(outer.rule)
        case "eq_rule":
            return rules.eq_rule.HasField("value")
        case kind:
            return kind is not None


def _has_infinity(message: Message, fields: Mapping[str, struct_pb2.Value]) -> bool:
    """Whether `fields`, which are of `message`, hold a number that JSON has no text for."""
    if not _INFINITE_DOUBLE.search(message.SerializeToString()):
        return False
    try:
        struct_json(fields)
    except NotFiniteError:
        return True
    return False


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _listed(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join([*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])])
