"""The official resolver answers through `Oracle`, and does what the specification says of its newest release."""

from __future__ import annotations

import pytest
from builders import (
    SECRET,
    all_of,
    any_of,
    assignment,
    bitset,
    bloom_filter,
    client,
    eq,
    fallthrough,
    flag,
    in_materialized,
    in_range,
    in_segment,
    kindless,
    materialization,
    not_,
    payload,
    request,
    rule,
    schema,
    segment,
    split,
    state,
    timestamp,
    variant,
    version,
)
from murmur import population_bucket
from oracle import Oracle, OracleError, OracleTrap, Suspended

from flagedge.wire.api_pb2 import ApplyFlagsRequest, FlagToApply

DEMO_SECRET = "mkjJruAATQWjeY7foFIWfVAcBWnci2YF"  # the public demo account's


def spread(vectors: list[dict], count: int) -> list[dict]:
    """About `count` of the vectors, evenly spread."""
    return vectors[:: max(1, len(vectors) // count)]


def matches(criterion, context=None, *, expression=None) -> bool:
    """Whether a unit with this context meets the criterion, says the oracle."""
    where = segment("s", criteria={"c": criterion}, expression=expression or "c")
    oracle = Oracle(payload(state(flag("a", rule(segment="s")), segments=[where])))
    [result] = oracle.resolve_flags(request(context)).values()
    return result["reason"] == "RESOLVE_REASON_MATCH"


# --- the oracle itself ----------------------------------------------------------------------------------------------


def test_demo_state(demo_payload):
    """The public demo account resolves three flags for its tutorial visitor."""
    oracle = Oracle(demo_payload)
    flags = oracle.resolve_flags(request({"visitor_id": "tutorial_visitor"}, secret=DEMO_SECRET))
    assert len(flags) == 3
    tutorial = flags["flags/tutorial-feature"]
    assert tutorial["variant"] == "flags/tutorial-feature/variants/exciting-welcome"
    assert tutorial["flagSchema"] == {"schema": {"message": {"stringSchema": {}}, "title": {"stringSchema": {}}}}


def test_json_shape():
    """A flag comes back as the HTTP API prints it: nulls filled in, numbers as floats, defaults left out."""
    value = {"n": 1, "sub": {"x": None}, "tags": [1, {"a": None}]}
    shape = schema({"n": int, "sub": {"x": str, "y": bool}, "tags": [float], "gone": {"z": int}, "untyped": None})
    built = flag("a", variants=[variant("on", value)], schema=shape)
    never = flag("b", rule(enabled=False))
    flags = Oracle(payload(state(built, never))).resolve_flags(request({"targeting_key": "u"}))
    assert flags["flags/b"] == {"flag": "flags/b", "reason": "RESOLVE_REASON_NO_SEGMENT_MATCH"}
    assert flags["flags/a"] == {
        "flag": "flags/a",
        "variant": "flags/a/variants/on",
        "value": {
            "n": 1.0, "sub": {"x": None, "y": None}, "tags": [1.0, {"a": None}], "gone": None, "untyped": None,
        },
        "flagSchema": {
            "schema": {
                "n": {"intSchema": {}},
                "sub": {"structSchema": {"schema": {"x": {"stringSchema": {}}, "y": {"boolSchema": {}}}}},
                "tags": {"listSchema": {"elementSchema": {"doubleSchema": {}}}},
                "gone": {"structSchema": {"schema": {"z": {"intSchema": {}}}}},
                "untyped": {},
            }
        },
        "reason": "RESOLVE_REASON_MATCH",
        "shouldApply": True,
        "assignmentOrigin": "flags/a/rules/r",
    }  # fmt: skip


def test_one_guest_holds_many_states():
    """Oracles used in turn each answer from their own state."""
    on = Oracle(payload(state(flag("a"))))
    off = Oracle(payload(state(flag("a", rule(assignments=[assignment("off")])))))
    for _ in range(3):
        assert on.resolve_flags(request())["flags/a"]["variant"].endswith("on")
        assert off.resolve_flags(request())["flags/a"]["variant"].endswith("off")


def test_errors_have_the_resolver_s_text():
    """An error of the resolver is raised with its own text, and the next request is fine."""
    oracle = Oracle(payload(state(flag())))
    with pytest.raises(
        OracleError, match=r"client secret not found: requested=unk\.\.\.own, available=\[tes\.\.\.ret\]"
    ):
        oracle.resolve(request(secret="unknown"))
    assert oracle.resolve_flags(request())


def test_bad_state_is_refused():
    """A state with a false full_bitset is refused as a whole."""
    built = state(flag(), bitsets=[bitset("s", full=True)])
    built.bitsets[0].full_bitset = False
    with pytest.raises(OracleError):
        Oracle(payload(built)).load()


def test_trap_renews_the_guest():
    """A trap is told apart from an error, and the oracle goes on with a new guest."""
    oracle = Oracle(payload(state(flag())))
    with pytest.raises(OracleTrap):
        oracle.resolve(request(secret="aa€€€aaaa"))
    assert oracle.resolve_flags(request())["flags/a"]["reason"] == "RESOLVE_REASON_MATCH"


def test_logs_and_apply():
    """Resolves and applied flags are found in the flushed logs, once."""
    oracle = Oracle(payload(state(flag("a", rule(selector="visitor_id")))))
    resolved = oracle.resolve(request({"visitor_id": "u"}))
    applied = ApplyFlagsRequest(client_secret=SECRET, resolve_token=resolved.resolve_token)
    applied.flags.append(FlagToApply(flag="flags/a"))
    applied.flags[0].apply_time.FromJsonString("2026-11-21T10:00:00Z")
    applied.send_time.FromJsonString("2026-11-21T10:00:01Z")
    oracle.apply_flags(applied)
    logs = oracle.flush_logs()
    [assigned] = logs.flag_assigned
    assert (assigned.resolve_id, assigned.flags[0].targeting_key) == (resolved.resolve_id, "u")
    [info] = logs.flag_resolve_info
    assert info.rule_resolve_info[0].assignment_resolve_info[0].assignment_id == "on"
    assert not oracle.flush_logs().flag_assigned


def test_materialization_modes():
    """A sticky rule is refused without materializations, suspends to ask for them, and follows its record."""
    sticky = materialization(write="m", read="m", ignore_targeting=True)
    choices = flag("a", rule(selector="v", materialization=sticky, assignments=split(on=100, off=0)))
    oracle = Oracle(payload(state(choices)))
    name = "flags/a/rules/r"
    asked = request({"v": "u"})
    assert oracle.resolve_flags(asked)["flags/a"]["reason"] == "RESOLVE_REASON_MATERIALIZATION_NOT_SUPPORTED"
    suspended = oracle.resolve(asked, mode="discovery")
    assert isinstance(suspended, Suspended)
    assert suspended.reads == [("u", "m", name, "")]
    assert oracle.resume(suspended).writes == [("u", "m", name, "flags/a/variants/on")]
    record = ("u", "m", name, "flags/a/variants/off")
    for result in (oracle.resume(suspended, [record]), oracle.resolve(asked, mode="static", records=[record])):
        assert result.flags["flags/a"]["variant"] == "flags/a/variants/off"
        assert result.writes == []


def test_fallthrough_is_kept():
    """A unit that fell through and met no later rule is still to be applied."""
    oracle = Oracle(payload(state(flag("a", rule(selector="v", assignments=[fallthrough()])))))
    expected = {"flag": "flags/a", "reason": "RESOLVE_REASON_NO_SEGMENT_MATCH", "shouldApply": True}
    assert oracle.resolve_flags(request({"v": "u"}))["flags/a"] == expected


def test_bitset_decides_at_the_unit_s_bit():
    """A unit is in a segment if its bit is set, and out beyond the end of the bitset."""
    bit = population_bucket("test-account", "u")

    def reason(**bits) -> str:
        built = state(
            flag("a", rule(selector="v", segment="s")), segments=[segment("s")], bitsets=[bitset("s", **bits)]
        )
        return Oracle(payload(built)).resolve_flags(request({"v": "u"}))["flags/a"]["reason"]

    assert reason(bits=[bit]) == "RESOLVE_REASON_MATCH"
    assert reason(bits=set(range(bit - 9, bit + 9)) - {bit}) == "RESOLVE_REASON_NO_SEGMENT_MATCH"
    assert reason(bits=range(bit & ~7), length=bit & ~7) == "RESOLVE_REASON_NO_SEGMENT_MATCH"
    assert reason(full=True) == "RESOLVE_REASON_MATCH"


def test_bloom_filter_answers_for_a_materialized_segment():
    """A bloom filter decides about its materialized segment without any materializations."""
    units = [f"unit-{index}" for index in range(20)]
    built = state(
        flag("a", rule(selector="v", segment="s")),
        segments=[segment("s", in_materialized("m"))],
        bloom_filters=[bloom_filter("m", units, bit_count=2000)],
    )
    oracle = Oracle(payload(built))
    found = [oracle.resolve_flags(request({"v": unit}))["flags/a"]["reason"] for unit in units]
    assert set(found) == {"RESOLVE_REASON_MATCH"}
    absent = oracle.resolve_flags(request({"v": "somebody else"}))["flags/a"]["reason"]
    assert absent == "RESOLVE_REASON_NO_SEGMENT_MATCH"


# --- what the newest release changed ---------------------------------------------------------------------------------


def test_d1_range_without_bounds_never_matches():
    """D1: a range rule with neither start nor end matches nothing."""
    assert not matches(in_range("n"), {"n": 1})
    assert not matches(in_range("n"))


def test_d2_missing_attribute_is_an_empty_list():
    """D2: over a missing or null attribute ANY is false, ALL is true, and the inner rule is not looked at."""
    for context in ({}, {"n": None}):
        assert not matches(any_of(eq("n", "null")), context)
        assert matches(all_of(eq("n", "x")), context)
        assert matches(all_of(eq("n")), context), "an inner rule that would be unrecognized is not looked at"
        assert matches(any_of(eq("n")), context, expression=not_("c"))
        assert not matches(all_of("n"), context), "no inner rule at all is unrecognized nonetheless"
        assert not matches(any_of("n"), context, expression=not_("c"))


def test_d3_eq_without_a_kind_is_a_null_test():
    """D3: an Eq rule whose value has no kind is true for missing, null and a list with a null in it."""
    criterion = eq("n", kindless())
    for context in ({}, {"n": None}, {"n": [1, None]}):
        assert matches(criterion, context)
    for context in ({"n": "null"}, {"n": []}, {"n": [1]}, {"n": {}}, {"n": False}):
        assert not matches(criterion, context)
    assert not matches(any_of(criterion), {"n": [None]})


def test_d4_managed_context_is_laid_over():
    """D4: managed values win, structs merge deeply, a managed null overrides, and the targeting key is no exception."""
    managed = {"targeting_key": "managed", "user": {"plan": "free", "extra": {"a": 1}}, "country": None}

    def meets(criterion) -> bool:
        built = state(
            flag("a", rule(segment="s")), segments=[segment("s", criterion)], clients=[client("c", managed=managed)]
        )
        context = {"targeting_key": ["bad"], "user": {"plan": "pro", "id": "u", "extra": {"b": 2}}, "country": "SE"}
        reason = Oracle(payload(built)).resolve_flags(request(context))["flags/a"]["reason"]
        return reason == "RESOLVE_REASON_MATCH"

    assert meets(eq("user.plan", "free"))
    assert meets(eq("user.id", "u"))
    assert meets(eq("user.extra.a", 1))
    assert meets(eq("user.extra.b", 2))
    assert meets(eq("country", None))
    assert meets(eq("targeting_key", "managed"))


# --- vectors --------------------------------------------------------------------------------------------------------


def test_population_bucket_vectors(reference_vectors):
    """The oracle looks at the bit that the vectors name."""
    for vector in spread(reference_vectors["population_bucket"], 10):
        built = state(
            flag("a", rule(selector="v", segment="s")),
            segments=[segment("s")],
            bitsets=[bitset("s", [vector["bucket"]])],
        )
        oracle = Oracle(payload(built, vector["account_id"]))
        reason = oracle.resolve_flags(request({"v": vector["unit"]}))["flags/a"]["reason"]
        assert reason == "RESOLVE_REASON_MATCH", vector


def test_variant_bucket_vectors(reference_vectors):
    """The oracle takes the bucket that the vectors name, and no other."""
    for vector in spread(reference_vectors["variant_bucket"], 30):
        bucket, count = vector["bucket"], vector["bucket_count"]
        choices = [assignment("on", (bucket, bucket + 1)), assignment("off", (0, count))]
        one = rule(selector="v", segment=vector["segment"], bucket_count=count, assignments=choices)
        oracle = Oracle(payload(state(flag("a", one), segments=[segment(vector["segment"])])))
        assert oracle.resolve_flags(request({"v": vector["unit"]}))["flags/a"]["variant"].endswith("on"), vector


def as_number(value):
    """Undo the text form of the vectors' numbers."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def test_targeting_key_vectors(reference_vectors):
    """The oracle takes the units, and refuses the values, that the vectors name."""
    reasons = {1: "MATCH", 2: "NO_SEGMENT_MATCH", 5: "TARGETING_KEY_ERROR"}
    oracle = Oracle(payload(state(flag("a", rule(assignments=[assignment("on", (0, 50), (50, 100))])))))
    for vector in spread(reference_vectors["targeting_key"], 50):
        resolved = oracle.resolve(request({"targeting_key": as_number(vector["value"])}, apply=True))
        assert resolved.flags["flags/a"]["reason"] == f"RESOLVE_REASON_{reasons[vector['reason']]}", vector
        applied = oracle.flush_logs().flag_assigned[0].flags
        assert [one.targeting_key for one in applied] == ([vector["unit"]] if vector["reason"] == 1 else []), vector


def test_timestamp_string_vectors(reference_vectors):
    """The oracle reads timestamps from text as the vectors say."""
    for vector in spread(reference_vectors["timestamp_string"], 100):
        seen = [
            matches(
                in_range("t", at_least=timestamp(vector["seconds"] or 0, vector["nanos"] or 0)), {"t": vector["input"]}
            ),
            matches(
                in_range("t", at_most=timestamp(vector["seconds"] or 0, vector["nanos"] or 0)), {"t": vector["input"]}
            ),
        ]
        assert seen == [vector["outcome"] == "ts"] * 2, vector


def test_semver_compare_vectors(reference_vectors):
    """The oracle orders versions as the vectors say."""
    for vector in spread(reference_vectors["semver_compare"], 60):
        context, bound = {"v": vector["context"]}, version(vector["rule"])
        assert matches(in_range("v", below=bound), context) == vector["lt"], vector
        assert matches(in_range("v", at_most=bound), context) == vector["le"], vector
        assert matches(eq("v", bound), context) == vector["eq_rule"], vector


def test_self_reference_is_false():
    """A segment that refers to itself is false at the second visit, so its negation is true."""
    itself = segment("s", criteria={"c": in_segment("s")}, expression=not_("c"))
    built = state(flag("a", rule(segment="s")), segments=[itself])
    assert Oracle(payload(built)).resolve_flags(request())["flags/a"]["reason"] == "RESOLVE_REASON_MATCH"
