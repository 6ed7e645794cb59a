"""States that are foreign, new, damaged or merely unusual: at least one for every finding of `sync_job.findings`.

`CASES` has each with what the official resolver makes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from builders import (
    ACCOUNT,
    SECRET,
    all_of,
    any_of,
    assignment,
    bitset,
    bloom_filter,
    client,
    credential,
    eq,
    flag,
    in_materialized,
    in_segment,
    materialization,
    no_rule,
    not_,
    or_,
    payload,
    rule,
    segment,
    split,
    state,
    unset_assignment,
    variant,
)
from oracle import encode_field

from flagedge.settings import Secret
from flagedge.wire.state_pb2 import Criterion, Expression, Flag, PackedBitset, ResolverState
from sync_job.decode import decode_state
from sync_job.findings import Finding, Note, StateError, Verdict
from sync_job.validate import validate_state

if TYPE_CHECKING:
    from google.protobuf.message import Message

NEW_FIELD = 50


def validate(built: ResolverState, *, account: str = ACCOUNT, secret: str = SECRET, **options: Any) -> tuple[Note, ...]:
    return validate_state(decode_state(payload(built, account)), client_secret=Secret(secret), **options)


def refused(built: ResolverState, **options: Any) -> dict[Finding, tuple[str, ...]]:
    """The names by finding of a state that is refused."""
    with pytest.raises(StateError) as caught:
        validate(built, **options)
    return {problem.finding: problem.names for problem in caught.value.problems}


def noted(built: ResolverState, **options: Any) -> dict[Finding, tuple[str, ...]]:
    """The names by finding of a state that is accepted."""
    return {note.finding: note.names for note in validate(built, **options)}


# --- every finding --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A state, the only thing to be found in it, and the official resolver's answer for the unit "u"."""

    finding: Finding
    names: tuple[str, ...]
    built: ResolverState
    official: str
    """A reason, "none" for a flag that is left out, or the start of an error."""
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.finding.code


def changed(built: Any, change: Callable[[Any], None]) -> Any:
    change(built)
    return built


def with_new_field(message: Message, number: int = NEW_FIELD, data: bytes = b"new") -> None:
    message.MergeFromString(encode_field(number, data))


def on_segment(*segments: Any, flag_rule: Flag.Rule | None = None, **parts: Any) -> ResolverState:
    """A state of one flag, "a", with one rule, on the first of the segments."""
    name = segments[0].name
    return state(flag("a", flag_rule or rule(segment=name)), segments=segments, **parts)


def allocated(share: bytes) -> Any:
    built = segment("s")
    with_new_field(built, 3, encode_field(1, encode_field(1, share)))
    return built


def without_slash(flag_rule: Flag.Rule) -> ResolverState:
    flag_rule.segment = "bare"
    return state(flag("a", flag_rule), segments=[changed(segment("s"), lambda one: setattr(one, "name", "bare"))])


HALVES = {"assignments": split(on=50, off=50)}
GONE = "flags/a/variants/gone"
RULE = "flags/a/rules/r"
MATCH, NO_MATCH, UNSUPPORTED = "MATCH", "NO_SEGMENT_MATCH", "MATERIALIZATION_NOT_SUPPORTED"
INTERNAL, LOAD = "internal error", "internal error"
CUT_SHORT = changed(bitset("s", [1]), lambda one: setattr(one, "gzipped_bitset", one.gzipped_bitset[:-1]))

CASES = [
    Case(Finding.ACCOUNT_CHANGED, ("live → test-account",), state(flag()), MATCH, {"live_account": "live"}),
    Case(Finding.SECRET_MISSING, (), state(flag(), credentials=[]), "client secret not found"),
    Case(Finding.SECRET_MISSING, (), state(flag(), clients=[], credentials=[]), "client secret not found"),
    Case(Finding.SECRET_UNKNOWN, (), state(flag(), credentials=[credential(secret="x")]), "client secret not found"),
    Case(
        Finding.FIELD_UNKNOWN,
        ("Rule field 50 in flags/a",),
        changed(state(flag()), lambda built: with_new_field(built.flags[0].rules[0])),
        MATCH,
    ),
    Case(
        Finding.FIELD_UNKNOWN,
        ("Flag field 4 in flags/a",),
        changed(state(flag()), lambda built: with_new_field(built.flags[0], 4)),
        "Failed to decode resolver state",
    ),
    Case(
        Finding.FLAG_STATE_UNKNOWN,
        ("flags/a (state 3)",),
        changed(state(flag("a"), flag("b")), lambda built: setattr(built.flags[0], "state", 3)),
        "none",
    ),
    Case(
        Finding.BLOOM_STRATEGY_UNKNOWN,
        ("m (strategy 2) in segments/s (flags/a)",),
        on_segment(segment("s", in_materialized("m")), bloom_filters=[bloom_filter("m", ["u"], strategy=2)]),
        UNSUPPORTED,
    ),
    Case(
        Finding.SEGMENTS_MISSING,
        (f"{RULE} (segments/gone)",),
        state(flag("a", rule(segment="gone"))),
        NO_MATCH,
    ),
    Case(
        Finding.VARIANT_MISSING,
        (f"{RULE} ({GONE})",),
        state(flag("a", rule(assignments=[assignment("gone")]))),
        INTERNAL,
    ),
    Case(
        Finding.VARIANT_MISSING,
        (f"{RULE} ({GONE})",),
        state(flag("a", rule(assignments=[assignment("gone", (0, 99)), assignment("on", (99, 100))]))),
        INTERNAL,
    ),
    Case(
        Finding.VARIANT_TWICE,
        ("flags/a/variants/on",),
        state(flag("a", variants=[variant("on", {"v": 1}), variant("on", {"v": 2})])),
        MATCH,
    ),
    Case(
        Finding.VALUE_NOT_FINITE,
        ("flags/a/variants/on",),
        state(flag("a", variants=[variant("on", {"in": {"list": [1, float("nan")]}})])),
        MATCH,  # as a message, which can say it; JSON cannot
    ),
    Case(Finding.BUCKETS_MISSING, (f"{RULE} (0)",), state(flag("a", rule(**HALVES, bucket_count=0))), INTERNAL),
    Case(Finding.BUCKETS_MISSING, (f"{RULE} (-5)",), state(flag("a", rule(**HALVES, bucket_count=-5))), NO_MATCH),
    Case(Finding.SEGMENT_ID_MISSING, (f"{RULE} (bare)",), without_slash(rule(**HALVES)), INTERNAL),
    Case(
        Finding.BITSET_DAMAGED,
        ("bitset of segments/s is not a plain gzip member",),
        on_segment(segment("s"), bitsets=[CUT_SHORT]),
        LOAD,
    ),
    Case(
        Finding.BITSET_DAMAGED,
        ("bitset of segments/of-nobody is marked as not full and holds nothing",),
        state(flag(), bitsets=[PackedBitset(segment="segments/of-nobody", full_bitset=False)]),
        LOAD,
    ),
    Case(
        Finding.BITSET_TWICE,
        ("segments/s",),
        on_segment(segment("s"), bitsets=[bitset("s", [1]), PackedBitset(segment="segments/s")]),
        NO_MATCH,  # the one with bits counts
    ),
    Case(
        Finding.BLOOM_BITS_MISSING,
        ("m",),
        on_segment(
            segment("s", in_materialized("m")),
            bloom_filters=[changed(bloom_filter("m", ["u"]), lambda one: setattr(one, "bit_count", 0))],
        ),
        "wasm",
    ),
    Case(
        Finding.CONTEXT_NOT_FINITE,
        ("clients/c",),
        state(flag(), clients=[client(managed={"n": float("inf")})]),
        MATCH,
    ),
    Case(Finding.FLAGS_MISSING, (), state(), "none"),
    Case(Finding.FLAGS_MISSING, (), state(flag("a", clients=["d"]), flag("b", state="ARCHIVED")), "none"),
    Case(Finding.NAME_TWICE, ("flags/a",), state(flag("a", rule(segment="gone")), flag("a")), MATCH),
    Case(
        Finding.NAME_TWICE,
        ("segments/s",),
        on_segment(segment("s", no_rule("n")), segment("s")),
        MATCH,
    ),
    Case(
        Finding.SECRET_TWICE,
        ("clients/c/clientCredentials/k (clients/c/clientCredentials/l)",),
        state(flag(), credentials=[credential("k"), credential("l")]),
        MATCH,
    ),
    Case(
        Finding.SECRET_EMPTY,
        ("clients/c/clientCredentials/open",),
        state(flag(), credentials=[credential("open", secret=""), credential("k")]),
        MATCH,
    ),
    Case(
        Finding.CREDENTIAL_LOST,
        ("clients/cd/clientCredentials/k",),
        state(flag(), credentials=[credential("k", client="cd", secret="other"), credential("k")]),
        MATCH,
    ),
    Case(
        Finding.FIELD_UNREAD,
        ("ResolverState field 50", "Client field 50", "ClientCredential field 50"),
        changed(
            state(flag()),
            lambda built: [
                with_new_field(message) for message in (built, built.clients[0], built.client_credentials[0])
            ],
        ),
        MATCH,
    ),
    Case(
        Finding.RULE_SEGMENT_MISSING,
        ("flags/a/rules/lost (segments/gone)",),
        state(flag("a", rule("lost", segment="gone"), rule())),
        MATCH,
    ),
    Case(Finding.ASSIGNMENTS_MISSING, (RULE,), state(flag("a", rule(assignments=None))), NO_MATCH),
    Case(
        Finding.ASSIGNMENT_UNSET,
        (RULE,),
        state(flag("a", rule(assignments=[unset_assignment((0, 100))]))),
        NO_MATCH,
    ),
    Case(
        Finding.VARIANT_MISSING_UNUSED,
        (f"{RULE} ({GONE})",),
        state(flag("a", rule(assignments=[assignment("gone", (0, 0)), assignment("on", (0, 100))]))),
        MATCH,
    ),
    Case(
        Finding.SEGMENT_MISSING,
        ("segments/s (segments/gone)",),
        on_segment(segment("s", criteria={"c": in_segment("gone")}, expression=not_("c"))),
        MATCH,
    ),
    Case(
        Finding.CRITERION_MISSING,
        ("segments/s (unknown)",),
        on_segment(segment("s", criteria={}, expression=not_("unknown"))),
        MATCH,
    ),
    Case(Finding.CRITERION_UNSET, ("segments/s (c0)",), on_segment(segment("s", Criterion())), NO_MATCH),
    Case(
        Finding.CRITERION_NOT_UNDERSTOOD,
        ("segments/s (country)",),
        on_segment(segment("s", criteria={"c": no_rule("country")}, expression=not_("c"))),
        NO_MATCH,
    ),
    Case(Finding.CRITERION_NOT_UNDERSTOOD, ("segments/s (n)",), on_segment(segment("s", eq("n"))), NO_MATCH),
    Case(Finding.CRITERION_NOT_UNDERSTOOD, ("segments/s (n)",), on_segment(segment("s", any_of("n"))), NO_MATCH),
    Case(
        Finding.CRITERION_NOT_UNDERSTOOD,
        ("segments/s (targeting_key)",),
        on_segment(segment("s", all_of(no_rule("targeting_key")))),
        NO_MATCH,
    ),
    Case(
        Finding.EXPRESSION_UNSET,
        ("segments/s",),
        on_segment(segment("s", criteria={"c": eq("n", 1)}, expression=or_("c", not_(Expression())))),
        MATCH,
    ),
    Case(
        Finding.EXPRESSION_MISSING,
        ("segments/s",),
        on_segment(segment("s", criteria={"c": eq("n", 1)})),
        MATCH,
    ),
    Case(Finding.BITSET_MISSING, ("segments/s",), on_segment(allocated(b"0.5556")), MATCH),
    Case(
        Finding.BLOOM_CUT_SHORT,
        ("m",),
        on_segment(
            segment("s", in_materialized("m")),
            bloom_filters=[changed(bloom_filter("m", ["u"]), lambda one: setattr(one, "data", one.data[:8]))],
        ),
        NO_MATCH,
    ),
    Case(
        Finding.STICKY_OFF,
        ("flags/a",),
        state(flag("a", rule(materialization=materialization("m")))),
        UNSUPPORTED,
        {"has_materializations": False},
    ),
    Case(
        Finding.STICKY_OFF,
        ("flags/a",),
        on_segment(segment("s", in_segment("inner")), segment("inner", in_materialized("m"))),
        UNSUPPORTED,
        {"has_materializations": False},
    ),
]
REFUSED = [case for case in CASES if case.finding.verdict is not Verdict.NOTED]
NOTED = [case for case in CASES if case.finding.verdict is Verdict.NOTED]
