"""Validation: what is refused, what is noted, and that neither claims anything else than the official resolver does."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
import shop
from builders import (
    ACCOUNT,
    SECRET,
    assignment,
    bitset,
    bloom_filter,
    compiled_plan,
    credential,
    flag,
    in_materialized,
    in_segment,
    materialization,
    payload,
    rule,
    segment,
    state,
    variant,
)
from differential import Tally, compare_case
from doubtful_states import (
    CASES,
    NOTED,
    REFUSED,
    Case,
    allocated,
    noted,
    on_segment,
    refused,
    validate,
    without_slash,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import Oracle, OracleError
from strategies import states
from vocabulary import SECRETS, UNITS
from workerd import TestWorker

from flagedge.errors import DecodeError
from flagedge.settings import Secret
from flagedge.wire.state_pb2 import PackedBitset, ResolverState
from sync_job.assemble import Upload
from sync_job.compile import compile_plan
from sync_job.decode import decode_state
from sync_job.findings import ISOLATE_MAX_BYTES, NAMES_MAX, WORKER_MAX_BYTES, Finding, StateError, Verdict
from sync_job.upload_size import check_upload_size
from sync_job.validate import validate_state
from sync_job.workers_api import Module

UPLOAD_FINDINGS = {
    Finding.WORKER_TOO_LARGE,
    Finding.WORKER_LARGE,
    Finding.ISOLATE_TOO_LARGE,
    Finding.ISOLATE_LARGE,
}


def test_every_finding_has_a_case() -> None:
    """Whatever can be found about a state is found in one of the cases."""
    assert {case.finding for case in CASES} == set(Finding) - UPLOAD_FINDINGS


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused(case: Case) -> None:
    """A state that is foreign, new or damaged is refused: the one reason, the things by name, and the way out."""
    with pytest.raises(StateError) as caught:
        validate(case.built, **case.options)
    assert [(problem.finding, problem.names) for problem in caught.value.problems] == [(case.finding, case.names)]
    text = str(caught.value)
    assert case.finding.text in text
    assert case.finding.code in text
    assert case.finding.way_out in text
    assert all(name in text for name in case.names)


@pytest.mark.parametrize("case", NOTED, ids=str)
def test_noted(case: Case) -> None:
    """A state that is merely unusual is accepted, with one note that names the things."""
    [note] = validate(case.built, **case.options)
    assert (note.finding, note.names) == (case.finding, case.names)
    assert all(name in note.to_text() for name in case.names)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_official_answer(case: Case) -> None:
    """The official resolver answers each case as is claimed: what is refused as damaged makes it err or not load."""
    assert official_answer(case.built).startswith(case.official)


def official_answer(built: ResolverState) -> str:
    """The reason for flags/a, "none" where it is left out, or the error."""
    ask = {"clientSecret": SECRET, "evaluationContext": {"targeting_key": "u"}, "apply": True, "flags": ["flags/a"]}
    try:
        flags = Oracle(payload(built)).resolve_flags(ask)
    except OracleError as error:
        return str(error)
    return flags["flags/a"]["reason"].removeprefix("RESOLVE_REASON_") if flags else "none"


@pytest.mark.parametrize("case", NOTED, ids=str)
def test_noted_resolve_as_officially(case: Case, test_worker: TestWorker) -> None:
    """The Worker answers for every noted state as the official resolver does."""
    requests = [
        {"clientSecret": SECRET, "evaluationContext": {"targeting_key": unit, "country": "SE", "n": 1}, "apply": True}
        for unit in (*UNITS, None)
    ]
    tally = Tally()
    compare_case(test_worker, payload(case.built), requests, tally)
    assert tally.requests == len(requests)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_accepting(case: Case) -> None:
    """What the operator accepts is a note, and can be compiled; what cannot be compiled cannot be accepted."""
    everything = dict.fromkeys(Finding)
    if case.finding.verdict is Verdict.UNUSABLE:
        assert list(refused(case.built, accept=everything, **case.options)) == [case.finding]
        return
    assert list(noted(case.built, accept=[case.finding], **case.options)) == [case.finding]
    assert list(refused(case.built, accept=everything.keys() - {case.finding}, **case.options)) == [case.finding]
    assert compiled_plan(case.built)


# --- details --------------------------------------------------------------------------------------------------------


def test_all_problems_at_once() -> None:
    """The error has every problem, the first 20 names in the order of the state, and counts of the rest."""
    gone = [flag(f"f{number:02}", rule(assignments=[assignment("gone")])) for number in range(30)]
    twice = flag("g", variants=[variant("on"), variant("on")])
    with pytest.raises(StateError) as caught:
        validate(state(*gone, twice, segments=[segment("everybody")]), live_account="live")
    problems = caught.value.problems
    assert [(problem.finding, problem.count) for problem in problems] == [
        (Finding.ACCOUNT_CHANGED, 1),
        (Finding.VARIANT_MISSING, 30),
        (Finding.VARIANT_TWICE, 1),
    ]
    text = str(caught.value)
    assert "flags/f18/rules/r" in text
    assert "flags/f19/rules/r" not in text
    assert "11 more" in text
    assert "1 of them" in text
    assert len(problems[1].names) == NAMES_MAX


def test_same_account() -> None:
    """The account that is live may be replaced by itself, and anything may be the first."""
    assert validate(state(flag()), live_account=ACCOUNT) == ()
    assert validate(state(flag()), live_account="") == ()


def test_secret_that_is_not_known() -> None:
    """Where nobody gave a client secret, as for `sync-job build`, none is looked for."""
    assert validate(state(flag()), secret="") == ()


def test_no_secret_is_told() -> None:
    """Neither errors nor notes hold a client secret."""
    secrets = ("hidden-one", "hidden-two", "hidden-three")
    built = state(
        flag(),
        credentials=[
            credential("k", secret=secrets[0]),
            credential("l", secret=secrets[0]),
            credential("m", client="gone", secret=secrets[1]),
        ],
    )
    notes = validate(built, secret=secrets[0])
    with pytest.raises(StateError) as caught:
        validate(built, secret=secrets[2])
    told = repr(notes) + "".join(note.to_text() for note in notes) + repr(caught.value) + str(caught.value)
    assert {note.finding for note in notes} == {Finding.SECRET_TWICE, Finding.CREDENTIAL_LOST}
    assert not [secret for secret in secrets if secret in told]


def test_full_rollouts_need_neither_buckets_nor_a_segment_id() -> None:
    """Where one assignment has all buckets none is looked for, so nothing can be missing."""
    assert validate(without_slash(rule())) == ()
    assert validate(state(flag("a", rule(bucket_count=0, assignments=[assignment("on", (0, 0))])))) == ()


def test_sticky_rules_can_reach_an_assignment_without_buckets() -> None:
    """A record may name a variant that no bucket leads to."""
    flag_rule = rule(
        assignments=[assignment("gone", (0, 0)), assignment("on", (0, 100))], materialization=materialization("", "m")
    )
    assert list(refused(state(flag("a", flag_rule)))) == [Finding.VARIANT_MISSING]


@pytest.mark.parametrize(
    ("bits", "share", "names"),
    [
        ([], b"0.5", ("segments/s",)),
        ([PackedBitset(segment="segments/s")], b"0.5", ("segments/s",)),
        ([bitset("s", [1])], b"0.5", ()),
        ([bitset("s", full=True)], b"0.5", ()),
        ([], b"1", ()),
    ],
)
def test_segments_without_a_bitset(bits: list[PackedBitset], share: bytes, names: tuple[str, ...]) -> None:
    """A segment that says to hold a part of all units and has no bitset is noted."""
    assert noted(on_segment(allocated(share), bitsets=bits)) == ({Finding.BITSET_MISSING: names} if names else {})


def test_bloom_filters_make_records_unnecessary() -> None:
    """A segment with a filter needs no sticky assignments; a filter of a new strategy beside it changes nothing."""
    filters = [bloom_filter("m", ["u"]), bloom_filter("m", ["u"], strategy=2)]
    for order in (filters, filters[::-1]):
        built = on_segment(segment("s", in_materialized("m")), bloom_filters=order)
        assert validate(built, has_materializations=False) == ()


def test_cycles_are_accepted() -> None:
    """Segments that ask for each other are walked once."""
    built = on_segment(segment("s", in_segment("t")), segment("t", in_segment("s")))
    assert validate(built) == ()


# --- real and generated states --------------------------------------------------------------------------------------


def test_demo_account(demo_payload: bytes) -> None:
    """The real state of Confidence's demo account is accepted without a note."""
    secret = Secret("mkjJruAATQWjeY7foFIWfVAcBWnci2YF")
    decoded = decode_state(demo_payload)
    assert (
        validate_state(decoded, client_secret=secret, live_account="confidence-demo-june", has_materializations=False)
        == ()
    )


def test_shop() -> None:
    """The demo shop's states are accepted without a note."""
    for data in (shop.shop_payload(), shop.changed_shop_payload()):
        assert (
            validate_state(decode_state(data), client_secret=Secret(shop.WEB_SECRET), live_account=shop.ACCOUNT) == ()
        )


GENERATED_AND_REFUSED = {
    Finding.VARIANT_MISSING,
    Finding.BUCKETS_MISSING,
    Finding.SEGMENT_ID_MISSING,
    Finding.BLOOM_STRATEGY_UNKNOWN,
}
"""What the generator makes on purpose: three ways to an internal error, and a filter that nobody understands."""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(states())
def test_generated_states(built: ResolverState) -> None:
    """Of the states on which Worker and official resolver are compared, four kinds are refused; the others compile."""
    for message in built.clients:
        message.ClearField("managed_context")  # its texts may stand under numeric rules
    if found := problems(built):
        assert found <= GENERATED_AND_REFUSED
        return
    assert compiled_plan(built)
    oracle = Oracle(payload(built))
    for unit in UNITS[:4]:
        context = {"targeting_key": unit, "visitor_id": unit, "user": {"id": unit}}
        for secret in SECRETS:
            # The context holds nothing to convert, so an internal error would be the state's own.
            oracle.resolve({"clientSecret": secret, "evaluationContext": context, "apply": True})


def problems(built: ResolverState) -> set[Finding]:
    try:
        validate(built, secret=SECRETS[0])
    except StateError as error:
        return {problem.finding for problem in error.problems}
    return set()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(built=states(), source=st.randoms(use_true_random=False))
def test_damaged_bytes(built: ResolverState, source: random.Random) -> None:
    """Whatever happened to a state's bytes: it is refused as what it is, or it compiles."""
    data = bytearray(payload(built))
    for _ in range(source.randint(1, 4)):
        data[source.randrange(len(data))] = source.randrange(256)
    with suppress(DecodeError):
        decoded = decode_state(bytes(data))
        validate_state(decoded, client_secret=Secret(""))
        assert compile_plan(decoded, etag='"e"')


# --- the upload -----------------------------------------------------------------------------------------------------


def upload(text_bytes: int, data_bytes: int) -> Upload:
    modules = (
        Module("plan.json", bytes(text_bytes), "text/plain"),
        Module("bitsets.bin", bytes(data_bytes), "application/octet-stream"),
    )
    return Upload({}, modules, {})


@pytest.mark.parametrize(
    ("text_bytes", "data_bytes", "codes"),
    [
        (1_000, 1_000, set()),
        (11_000_000, 1_000_000, set()),
        (13_000_000, 0, {"isolate_large"}),
        (0, 40 * 1024 * 1024, {"worker_large"}),
        (1_000_000, 60_000_000, {"worker_large", "isolate_large"}),
    ],
)
def test_large_uploads_are_noted(text_bytes: int, data_bytes: int, codes: set[str]) -> None:
    """An upload above half of what the platform has is noted: a plan's text weighs several times its size."""
    assert {note.finding.code for note in check_upload_size(upload(text_bytes, data_bytes))} == codes


@pytest.mark.parametrize(
    ("text_bytes", "data_bytes", "finding", "most_bytes"),
    [
        (25_000_000, 0, Finding.ISOLATE_TOO_LARGE, ISOLATE_MAX_BYTES),
        (0, 65 * 1024 * 1024, Finding.WORKER_TOO_LARGE, WORKER_MAX_BYTES),
    ],
)
def test_too_large_uploads_are_refused(text_bytes: int, data_bytes: int, finding: Finding, most_bytes: int) -> None:
    """An upload that the platform would not take or not run is refused before it is sent, unless accepted."""
    built = upload(text_bytes, data_bytes)
    with pytest.raises(StateError, match=str(most_bytes)) as caught:
        check_upload_size(built)
    assert [problem.finding for problem in caught.value.problems] == [finding]
    assert finding in {note.finding for note in check_upload_size(built, accept=[finding])}
