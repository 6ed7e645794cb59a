"""What is rebuilt from our messages is what the official resolver logs, added up without its mistake."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
import shop
from builders import SECRET, assignment, fallthrough, flag, payload, rule, state, variant
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import AT_MS, Fallthrough, body, busy_request, compact, decided, message, no_match, request
from oracle import Oracle
from workerd import TestWorker

from flagedge.errors import DecodeError
from flagedge.wire.logs_pb2 import WriteFlagLogsRequest
from log_consumer.flag_logs import FlagLogs, add_up, time_text
from log_consumer.rebuild import read_message, rebuild

CLIENT = {"client": "clients/web", "client_credential": "clients/web/clientCredentials/k"}
LATENCY = {"sum_us": 3_000, "count": 3, "buckets": {"54": 2, "55": 1}}
TELEMETRY = {"resolve_count": 3, "error_count": 0, "latency": LATENCY}

PASSING = payload(
    state(
        flag("passed", rule("through", assignments=[fallthrough((0, 100), assignment_id="out")]), rule("last")),
        flag("only-passed", rule("through", assignments=[fallthrough((0, 100))])),
        flag("unit-of-wrong-kind", rule("a", selector="age"), rule("b")),
        flag("plain", rule(assignments=[assignment("on")]), variants=[variant("on")]),
    )
)


def to_json(request: WriteFlagLogsRequest) -> dict[str, Any]:
    return json_format.MessageToDict(request)


def facts(*requests: WriteFlagLogsRequest) -> dict[str, Any]:
    """What requests say together, as sets and sums without an order; resolve ids and times differ by run."""
    variants, rules, assignments = Counter[Any](), Counter[Any](), Counter[Any]()
    schemas = set()
    for one in requests:
        for info in one.flag_resolve_info:
            variants.update({(info.flag, each.variant): each.count for each in info.variant_resolve_info})
            for rule_info in info.rule_resolve_info:
                rules[info.flag, rule_info.rule] += rule_info.count
                for each in rule_info.assignment_resolve_info:
                    assignments[info.flag, rule_info.rule, each.assignment_id] += each.count
        for client in one.client_resolve_info:
            schemas |= {
                (client.client_credential, each.SerializeToString(deterministic=True)) for each in client.schema
            }
    return {
        "assigned": sorted(envelope for one in requests for envelope in envelopes(one)),
        "variants": variants,
        "rules": rules,
        "assignments": assignments,
        "schemas": schemas,
    }


def envelopes(request: WriteFlagLogsRequest) -> Iterable[str]:
    """What each request applied, of those that did; an envelope without flags says that there might have been some."""
    for assigned in request.flag_assigned:
        flags = [{**json_format.MessageToDict(each), "applyTime": None} for each in assigned.flags]
        if flags:
            client = json_format.MessageToDict(assigned.client_info)
            yield json.dumps([client, sorted(flags, key=lambda each: each["flag"])], sort_keys=True)


def rates(*requests: WriteFlagLogsRequest) -> Counter[int]:
    total = Counter[int]()
    for one in requests:
        total.update({rate.reason: rate.count for rate in one.telemetry_data.resolve_rate})
    return total


def buckets(request: WriteFlagLogsRequest) -> Counter[int]:
    total = Counter[int]()
    for run in request.telemetry_data.resolve_latency.buckets:
        total.update(dict(enumerate(run.counts, run.offset)))
    return total


def texts_of(worker: TestWorker, built: bytes, bodies: list[dict[str, Any]], **env: str) -> list[str]:
    """The messages of a Worker that was sent these requests."""
    batch = worker.resolve(built, bodies, env={"DEPLOYER_VERSION": "9.9", **env})
    return [json.dumps(each) for each in batch.messages]


def shop_bodies(count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"flags": [], "clientSecret": shop.WEB_SECRET, "evaluationContext": context, "apply": True} | more
        for context in shop.visitors(count, seed=3)
    ]


# --- against the official resolver -----------------------------------------------------------------------------------


@pytest.mark.parametrize("linger_ms", ["0", "50"])
def test_same_facts_as_the_official_resolver(test_worker: TestWorker, linger_ms: str) -> None:
    """Of many visitors, message for message and aggregated: assignments, fall-throughs, counts, schemas."""
    bodies = shop_bodies(40)
    oracle = Oracle(shop.shop_payload())
    oracle.flush_logs()
    official = []
    for each in bodies:
        oracle.resolve(each)
        official.append(oracle.flush_logs())
    texts = texts_of(test_worker, shop.shop_payload(), bodies, LOG_LINGER_MS=linger_ms)
    if linger_ms == "0":
        assert [facts(rebuild([text])) for text in texts] == [facts(each) for each in official]
    assert facts(rebuild(texts)) == facts(*official)


@pytest.mark.parametrize("context", [{"targeting_key": "u"}, {"targeting_key": "u", "age": 1.5}, {}, {"age": "7"}])
def test_fallthroughs_and_errors_as_the_official_resolver(test_worker: TestWorker, context: dict[str, Any]) -> None:
    """Rules passed through, units of the wrong kind, and no unit at all are told in the same words."""
    asked = {"flags": [], "clientSecret": SECRET, "evaluationContext": context, "apply": True}
    oracle = Oracle(PASSING)
    oracle.flush_logs()
    oracle.resolve(asked)
    assert facts(rebuild(texts_of(test_worker, PASSING, [asked]))) == facts(oracle.flush_logs())


@pytest.mark.parametrize("linger_ms", ["0", "50"])
def test_both_forms_say_the_same(test_worker: TestWorker, linger_ms: str) -> None:
    """The rebuild of our messages is the sum of upstream's for the same requests, telemetry included."""
    bodies = shop_bodies(30) + shop_bodies(5, flags=["flags/live-chat"]) + shop_bodies(3, evaluationContext={})
    ours = rebuild(texts_of(test_worker, shop.shop_payload(), bodies, LOG_LINGER_MS=linger_ms))
    texts = texts_of(test_worker, shop.shop_payload(), bodies, LOG_FORMAT="upstream")
    upstream = [json_format.Parse(text, WriteFlagLogsRequest()) for text in texts]
    assert facts(ours) == facts(*upstream)
    assert rates(ours) == rates(*upstream)
    assert facts(rebuild(texts)) == facts(*upstream)
    assert rates(rebuild(texts)) == rates(*upstream)
    telemetry = ours.telemetry_data
    assert telemetry.resolve_latency.count == sum(buckets(ours).values()) == len(bodies)
    assert telemetry.resolve_latency.ln_ratio == upstream[0].telemetry_data.resolve_latency.ln_ratio
    assert (telemetry.sdk, telemetry.resolver_version) == (upstream[0].telemetry_data.sdk, "9.9")


def test_applied_tokens_are_only_applied(test_worker: TestWorker) -> None:
    """A message of applied tokens has no telemetry, no counts and the callers' times, as upstream's has not."""
    key = {"FORCE_APPLY": "false", "RESOLVE_TOKEN_ENCRYPTION_KEY": "AAECAwQFBgcICQoLDA0ODw=="}
    resolved = test_worker.resolve(
        PASSING, [{"clientSecret": SECRET, "evaluationContext": {"targeting_key": "u"}, "apply": False}], env=key
    ).answers[0]
    from sync_job.compile import compile_plan  # noqa: PLC0415
    from sync_job.decode import decode_state  # noqa: PLC0415

    applied = [
        {"flag": name, "applyTime": time_text((datetime.now(UTC).timestamp().__floor__() - 1) * 10**9)}
        for name in ("flags/passed", "flags/only-passed", "flags/plain")
    ]
    asked = {
        "flags": applied,
        "clientSecret": SECRET,
        "resolveToken": resolved.json["resolveToken"],
        "sendTime": time_text(datetime.now(UTC).timestamp().__floor__() * 10**9),
    }
    plan = compile_plan(decode_state(PASSING), etag='"test"')
    sent = [{"path": "/v1/flags:apply", "body": json.dumps(asked)}]
    [ours] = test_worker.run(plan, sent, env=key).messages
    [upstream] = test_worker.run(plan, sent, env=key | {"LOG_FORMAT": "upstream"}).messages
    rebuilt = rebuild([json.dumps(ours)])
    assert facts(rebuilt) == facts(json_format.ParseDict(upstream, WriteFlagLogsRequest()))
    assert len(list(envelopes(rebuilt))) == 1
    assert not rebuilt.HasField("telemetry_data")
    assert not rebuilt.flag_resolve_info
    [assigned] = rebuilt.flag_assigned
    assert assigned.resolve_id == resolved.json["resolveId"]
    assert {each.apply_time.ToMilliseconds() for each in assigned.flags} != {ours["resolves"]["at_ms"][0]}


# --- what it says, line by line ---------------------------------------------------------------------------------------


def test_a_message_in_full() -> None:
    """Every part of a message in the words of Confidence's JSON."""
    passed = Fallthrough()
    flags = (decided(fallthroughs=(passed,)), no_match("flags/b"))
    text = body(
        request(*flags),
        schemas=[
            {
                "client": 0,
                "schema": {"country": "STRING_KIND"},
                "semantic_types": {"country": {"country": {"format": "TWO_LETTER_ISO_CODE"}}},
            }
        ],
        telemetry=TELEMETRY,
    )
    assert json.loads(read_message(text).to_json()) == {
        "flagAssigned": [
            {
                "resolveId": "F9JOaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "clientInfo": {"client": "clients/web", "clientCredential": "clients/web/clientCredentials/k"},
                "flags": [
                    {
                        "flag": "flags/a",
                        "targetingKey": "visitor-17",
                        "targetingKeySelector": "visitor_id",
                        "assignmentInfo": {"segment": "segments/s", "variant": "flags/a/variants/on"},
                        "assignmentId": "flags/a/variants/on",
                        "rule": "flags/a/rules/r",
                        "fallthroughAssignments": [
                            {
                                "rule": "flags/a/rules/holdout",
                                "assignmentId": "holdout",
                                "targetingKey": "visitor-17",
                                "targetingKeySelector": "visitor_id",
                            }
                        ],
                        "applyTime": "2025-11-21T04:40:00.123+00:00",
                    },
                    {
                        "flag": "flags/b",
                        "defaultAssignment": {"reason": "NO_SEGMENT_MATCH"},
                        "applyTime": "2025-11-21T04:40:00.123+00:00",
                    },
                ],
            }
        ],
        "telemetryData": {
            "sdk": {"id": "SDK_ID_CLOUDFLARE_RESOLVER", "version": "0.1.0"},
            "resolveLatency": {
                "sum": 3000,
                "count": 3,
                "buckets": [{"offset": 54, "counts": [2, 1]}],
                "lnRatio": 0.12792139405522476,
            },
            "resolveRate": [
                {"count": 1, "reason": "RESOLVE_REASON_MATCH"},
                {"count": 1, "reason": "RESOLVE_REASON_NO_SEGMENT_MATCH"},
            ],
            "resolverVersion": "0.1.0",
        },
        "clientResolveInfo": [
            {
                "client": "clients/web",
                "clientCredential": "clients/web/clientCredentials/k",
                "schema": [
                    {
                        "schema": {"country": "STRING_KIND"},
                        "semanticTypes": {"country": {"country": {"format": "TWO_LETTER_ISO_CODE"}}},
                    }
                ],
            }
        ],
        "flagResolveInfo": [
            {
                "flag": "flags/a",
                "variantResolveInfo": [{"variant": "flags/a/variants/on", "count": "1"}],
                "ruleResolveInfo": [
                    {
                        "rule": "flags/a/rules/r",
                        "count": "1",
                        "assignmentResolveInfo": [{"assignmentId": "flags/a/variants/on", "count": "1"}],
                    },
                    {
                        "rule": "flags/a/rules/holdout",
                        "count": "1",
                        "assignmentResolveInfo": [{"assignmentId": "holdout", "count": "1"}],
                    },
                ],
            },
            {"flag": "flags/b", "variantResolveInfo": [{"count": "1"}]},
        ],
    }


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("MATCH", {}),
        ("NO_SEGMENT_MATCH", {"reason": "NO_SEGMENT_MATCH"}),
        ("NO_TREATMENT_MATCH", {"reason": "NO_TREATMENT_MATCH"}),
        ("FLAG_ARCHIVED", {"reason": "FLAG_ARCHIVED"}),
        ("TARGETING_KEY_ERROR", {}),
        ("MATERIALIZATION_NOT_SUPPORTED", {}),
        ("SOMETHING_NEW", {}),
    ],
)
def test_without_a_variant_there_is_a_default_assignment(reason: str, said: dict[str, str]) -> None:
    """It is there whatever the reason, with it where Confidence has a word for it."""
    [assigned] = rebuild([body(request(decided(reason=reason, variant="", assignment_id="")))]).flag_assigned
    assert to_json(assigned)["flags"][0]["defaultAssignment"] == said  # type: ignore[arg-type]


def test_apply_times_of_exposures_win() -> None:
    """Where exposures have times of their own, those are told, and the request's elsewhere."""
    made = request(decided(applied_at_ms=AT_MS - 5_000), decided(flag="flags/c"))
    [assigned] = rebuild([body(made)]).flag_assigned
    assert [each.apply_time.ToMilliseconds() for each in assigned.flags] == [AT_MS - 5_000, AT_MS]


def test_a_request_that_applied_nothing_is_an_envelope() -> None:
    """A row of `resolves` without exposures is told as upstream tells it: an envelope without flags."""
    empty = message(request())
    empty["exposures"] = {"resolve": [], "outcome": [], "unit": []}
    assert json.loads(read_message(compact(empty)).to_json())["flagAssigned"] == [
        {
            "resolveId": "F9JOaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "clientInfo": {"client": "clients/web", "clientCredential": "clients/web/clientCredentials/k"},
        }
    ]


def test_an_empty_context_is_a_schema() -> None:
    """An empty schema is told too, once per credential."""
    seen = [{"client": 0, "schema": {}, "semantic_types": {}}]
    request = rebuild([body(schemas=seen), body(seq=1, schemas=seen)])
    assert to_json(request)["clientResolveInfo"][0]["schema"] == [{}]


def test_what_confidence_has_no_word_for_keeps_nothing_back() -> None:
    """Unknown kinds and semantic types are left out, and the rest of the message is told."""
    seen = [
        {
            "client": 0,
            "schema": {"a": "STRING_KIND", "b": "COLOUR_KIND"},
            "semantic_types": {"a": {"colour": {}}, "c": "x"},
        }
    ]
    rebuilt = to_json(rebuild([body(schemas=seen)]))
    assert rebuilt["clientResolveInfo"][0]["schema"] == [{"schema": {"a": "STRING_KIND"}}]
    assert rebuilt["flagAssigned"]


def test_half_a_surrogate_pair_is_told_as_a_replacement() -> None:
    """One visitor's odd key costs nobody's exposures."""
    text = body(request(decided(unit="x")), telemetry=TELEMETRY).replace('"units":["x"]', '"units":["\\ud83d y"]')
    [assigned] = rebuild([text]).flag_assigned
    assert assigned.flags[0].targeting_key == "\ufffd y"
    whole = body().replace("visitor-17", "\\ud83d\\ude00")
    assert rebuild([whole]).flag_assigned[0].flags[0].targeting_key == "😀"


@pytest.mark.parametrize(
    ("at_ns", "text"),
    [
        (1_704_067_200_000_000_000, "2024-01-01T00:00:00+00:00"),
        (1_704_067_200_123_000_000, "2024-01-01T00:00:00.123+00:00"),
        (1_704_067_200_000_100_000, "2024-01-01T00:00:00.000100+00:00"),
        (1_704_067_200_000_000_001, "2024-01-01T00:00:00.000000001+00:00"),
        (253_402_300_799_999_000_000, "9999-12-31T23:59:59.999+00:00"),
    ],
)
def test_times_have_as_few_digits_as_are_exact(at_ns: int, text: str) -> None:
    """Groups of three, and an offset, never Z."""
    assert time_text(at_ns) == text


# --- sums ------------------------------------------------------------------------------------------------------------


def upstream_message(*assignment_ids: str) -> str:
    """A message of the official Worker's in which one rule assigned these, one request each."""
    infos = [
        {
            "flag": "flags/a",
            "variantResolveInfo": [{"variant": f"flags/a/variants/{each}", "count": "1"}],
            "ruleResolveInfo": [
                {
                    "rule": "flags/a/rules/r",
                    "count": "1",
                    "assignmentResolveInfo": [{"assignmentId": each, "count": "1"}],
                }
            ],
        }
        for each in assignment_ids
    ]
    return json.dumps({"flagResolveInfo": infos})


def test_assignment_counts_are_summed() -> None:
    """A, A, B, A is three times A and once B; the official consumer makes it once A."""
    [info] = rebuild(map(upstream_message, "AABA")).flag_resolve_info
    [rule_info] = info.rule_resolve_info
    assert rule_info.count == 4
    assert {each.assignment_id: each.count for each in rule_info.assignment_resolve_info} == {"A": 3, "B": 1}


def test_messages_of_both_forms_add_up() -> None:
    """Counts of the same rule are summed whatever told of them."""
    ours = body(request(decided(flag="flags/a", assignment_id="A", variant="flags/a/variants/A")))
    [info] = rebuild([ours, upstream_message("A", "B")]).flag_resolve_info
    assert {each.variant: each.count for each in info.variant_resolve_info} == {
        "flags/a/variants/A": 2,
        "flags/a/variants/B": 1,
    }
    assert info.rule_resolve_info[0].count == 3


def test_telemetry_is_summed() -> None:
    """Histograms are added bucket by bucket, rates by reason; failed requests are ERROR."""
    first = body(busy_request(0), telemetry=TELEMETRY | {"error_count": 2})
    latency = {"sum_us": 10, "count": 2, "buckets": {"0": 1, "54": 1}}
    second = body(busy_request(1), seq=1, telemetry=TELEMETRY | {"latency": latency}, worker_version="0.2.0")
    rebuilt = rebuild([first, second])
    telemetry = rebuilt.telemetry_data
    assert (telemetry.resolve_latency.sum, telemetry.resolve_latency.count) == (3010, 5)
    assert buckets(rebuilt) == {0: 1, 54: 3, 55: 1}
    assert [run.offset for run in telemetry.resolve_latency.buckets] == [0, 54]
    decisions = [each for number in (0, 1) for each in busy_request(number).decided]
    assert rates(rebuilt) == {
        1: sum(each.reason == "MATCH" for each in decisions),
        2: sum(each.reason == "NO_SEGMENT_MATCH" for each in decisions),
        6: 2,
    }
    assert (telemetry.sdk.version, telemetry.resolver_version) == ("0.1.0", "0.2.0")


def test_sums_stay_within_their_types() -> None:
    """What no field can hold is the most that it can."""
    huge = {"sum_us": 2**40, "count": 2**40, "buckets": {"1": 2**40, "99999999999": 1}}
    logs = [read_message(body(seq=seq, telemetry=TELEMETRY | {"latency": huge})) for seq in range(2)]
    latency = add_up(logs).to_request().telemetry_data.resolve_latency
    assert (latency.sum, latency.count) == (2**32 - 1, 2**32 - 1)
    assert [list(run.counts) for run in latency.buckets] == [[2**32 - 1], [2]]


def test_upstreams_gauges_are_the_last_that_are_known() -> None:
    """State age, memory and version are the last told, SDK and ratio the first."""
    telemetries: list[dict[str, Any]] = [
        {"sdk": {"customId": "mine"}, "stateAge": {"lastStateUpdate": "1"}, "memoryBytes": "5", "resolverVersion": "1"},
        {"sdk": {"customId": "other"}, "stateAge": {"lastStateUpdate": "2"}},
    ]
    data = rebuild(json.dumps({"telemetryData": each}) for each in telemetries).telemetry_data
    assert to_json(data) == telemetries[0] | {"stateAge": {"lastStateUpdate": "2"}}  # type: ignore[arg-type]


def test_upstreams_other_spellings_are_read() -> None:
    """Keys in the proto's own spelling and unknown keys are read as the official consumer reads them."""
    plain = {
        "flagAssigned": [
            {
                "resolveId": "r",
                "clientInfo": {"client": "clients/c", "sdk": {"id": "SDK_ID_JS_CONFIDENCE"}},
                "flags": [{"flag": "flags/a", "targetingKey": "u", "defaultAssignment": {}}],
            }
        ]
    }
    odd = {
        "flag_assigned": [
            {
                "resolve_id": "r",
                "client_info": {"client": "clients/c", "sdk": {"id": 13}},
                "flags": [{"flag": "flags/a", "targeting_key": "u", "default_assignment": {}, "new": 1}],
            }
        ],
        "somethingNew": [1],
    }
    mixed = {"flagAssigned": odd["flag_assigned"]}
    assert to_json(rebuild([json.dumps(plain)])) == plain
    for text in (json.dumps(odd), json.dumps(mixed)):
        assert rebuild([text]) == rebuild([json.dumps(plain)])
        assert json.loads(read_message(text).to_json()) == plain


# --- encodings, halves, and what is no message -----------------------------------------------------------------------


def spread(logs: FlagLogs) -> list[FlagLogs]:
    """Halves of halves, down to what cannot be cut."""
    halves = logs.halve()
    return [logs] if halves is None else [each for half in halves for each in spread(half)]


def test_halves_say_the_same_as_the_whole() -> None:
    """Cut down to single flags, nothing is lost or doubled."""
    logs = read_message(body(*(busy_request(number) for number in range(3)), telemetry=TELEMETRY))
    parts = [part.to_request() for part in spread(logs)]
    assert max(len(assigned.flags) for part in parts for assigned in part.flag_assigned) == 1
    assert sum(part.HasField("telemetry_data") for part in parts) == 1
    whole = facts(logs.to_request())
    together = facts(*parts)
    for what in ("variants", "rules", "assignments", "schemas"):
        assert together[what] == whole[what]
    flags = sorted(
        (assigned.resolve_id, flag.SerializeToString(deterministic=True))
        for assigned in logs.to_request().flag_assigned
        for flag in assigned.flags
    )
    assert flags == sorted(
        (assigned.resolve_id, flag.SerializeToString(deterministic=True))
        for part in parts
        for assigned in part.flag_assigned
        for flag in assigned.flags
    )


def test_json_is_the_request_in_json() -> None:
    """The JSON that is written is read back as the request that is encoded."""
    units = ["ü 中 ß", 'quote " and \\ and \n', "😀", ""]
    requests = [request(decided(unit=unit, fallthroughs=(Fallthrough(unit=unit),))) for unit in units]
    logs = read_message(body(*requests, telemetry=TELEMETRY))
    assert json_format.Parse(logs.to_json(), WriteFlagLogsRequest()) == logs.to_request()


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "7", '"x"', "{", '{"format":"flagedge/2"}', '{"format":"flagedge/1"}', '{"flagAssigned":7}',
     '{"flagAssigned":[{"flags":[{"targetingKey":7}]}]}', '{"telemetryData":{"resolveRate":[{"count":-1}]}}'],
)  # fmt: skip
def test_what_is_no_message_is_refused(text: str) -> None:
    """One error for whatever it is, which does not quote it."""
    with pytest.raises(DecodeError) as raised:
        read_message(text)
    assert "targetingKey" not in str(raised.value)


_SCRAPS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.just([]),
    st.just({}),
    st.just([{}]),
)


def in_our_form() -> dict[str, Any]:
    made = message(request(decided(fallthroughs=(Fallthrough(),))), telemetry=TELEMETRY)
    made["schemas"] = [{"client": 0, "schema": {"a": "STRING_KIND"}, "semantic_types": {}}]
    return made


def in_upstreams_form() -> dict[str, Any]:
    return to_json(rebuild([compact(in_our_form())]))


@pytest.mark.parametrize("make", [in_our_form, in_upstreams_form])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_what_was_read_can_be_encoded(make: Callable[[], dict[str, Any]], data: st.DataObject) -> None:
    """Whatever stands in a message, it is refused when it is read, or both encodings of it can be made and agree."""
    made = json.loads(json.dumps(make()))  # parts of it are shared with other tests
    place: Any = made
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(_SCRAPS)
    try:
        logs = read_message(json.dumps(made))
    except DecodeError:
        return
    assert json_format.Parse(logs.to_json(), WriteFlagLogsRequest()) == logs.to_request()
