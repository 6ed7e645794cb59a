"""What a message becomes in the tables, and what happens to one that cannot become anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from deliveries import NOW, ask, load_next
from fake_queue import FakeQueue, Message, pull_response
from messages import AT_MS, ISOLATE, Fallthrough, body, busy_request, compact, decided, message, no_match, request

from flagedge.errors import DecodeError
from log_consumer.load import Loaded, decode
from log_consumer.store import Store

Deliver = Callable[..., Loaded]
AT = datetime(2025, 11, 21, 4, 40, 0, 123_000)  # noqa: DTZ001 - AT_MS, in UTC.
HOSTILE = [
    "'; drop table exposures; --",
    '"quoted" \\ and \\u0000 spelled out',
    "</script><script>alert(1)</script>",
    "nul \x00 inside",
    "emoji 🦆👩‍👩‍👧 and \u202e rtl",
    "line\nbreak\ttab\r",
    "$1 ? {} %s ${x}",
    "null",
    "x" * 100_000,
]


def test_a_match_becomes_one_row(deliver: Deliver, store: Store) -> None:
    """Every column of an exposure comes from the dictionary entry that its index names."""
    deliver(body(request(decided()), seq=3))
    assert ask(store, "from exposures") == [
        (
            AT,
            "flags/a",
            "flags/a/rules/r",
            "flags/a/variants/on",
            "segments/s",
            "flags/a/variants/on",
            "visitor-17",
            "visitor_id",
            "MATCH",
            False,
            "F9JOaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "clients/web",
            "clients/web/clientCredentials/k",
            "api",
            "SDK_ID_JS_CONFIDENCE",
            "0.2.1",
            "SE",
            False,
            '"3f2a"',
            "0.1.0",
            AT,
            ISOLATE,
            3,
            NOW,
            1,
        )
    ]


def test_indexes_point_into_their_own_message(deliver: Deliver, store: Store) -> None:
    """Rows of several requests and messages each take their own request's client, origin and unit."""
    first = request(decided(unit="u1"), no_match(), client="clients/one", country="DE")
    second = request(decided(unit="u2", flag="flags/c"), client="clients/two", source="ofrep", at_ms=AT_MS + 1000)
    deliver(body(first, second, seq=0), body(second, seq=1))
    rows = ask(store, "select seq, flag, targeting_key, client, source, country, reason from exposures order by all")
    assert rows == [
        (0, "flags/a", "u1", "clients/one", "api", "DE", "MATCH"),
        (0, "flags/b", None, "clients/one", "api", "DE", "NO_SEGMENT_MATCH"),
        (0, "flags/c", "u2", "clients/two", "ofrep", "SE", "MATCH"),
        (1, "flags/c", "u2", "clients/two", "ofrep", "SE", "MATCH"),
    ]


FLAGS = ["flags/a", "flags/", "a", "flags//a", "/flags/a", "größe 🦆/é", "rules"]
NAMES = [
    "{}x",
    "{}x/y",
    "{}",  # the prefix alone
    "{}/x",
    "{}{}x",
    "{}größe-🦆-é",
    "{}\"'\\x",
    "/{}x",
    "elsewhere/x",
    "flags/other/rules/x",
    "flags",  # almost the prefix
    "/",
    "//x//",
    "/\u0301x",  # a combining mark, which is one letter with the slash
    " ",
    "null",
]


@pytest.mark.parametrize("flag", FLAGS)
def test_names_come_out_in_full(deliver: Deliver, store: Store, flag: str) -> None:
    """Whatever a flag, rule, segment, variant or assignment is called, the tables have it as the state has it."""
    bodies, exposed, passed, counted = [], [], [], []
    for seq, name in enumerate(NAMES):
        prefixes = ("flags/", f"{flag}/rules/", "segments/", f"{flag}/variants/")
        other, rule, segment, variant = (name.replace("{}", prefix) for prefix in prefixes)
        through = Fallthrough(rule=rule, segment=segment, assignment_id=variant)
        names = {"flag": flag, "rule": rule, "segment": segment, "variant": variant, "assignment_id": variant}
        bodies.append(body(request(decided(**names, fallthroughs=(through,)), no_match(other)), seq=seq))
        exposed += [(seq, flag, rule, segment, variant, variant), (seq, other, None, None, None, None)]
        passed.append((seq, flag, rule, segment, variant))
        counted += [(seq, "match", flag, rule, variant, variant), (seq, "fallthrough", flag, rule, None, variant)]
        counted.append((seq, "no_match", other, None, None, None))
    deliver(*bodies)
    columns = "seq, flag, rule, segment, variant, assignment_id"
    assert ask(store, f"select {columns} from exposures order by seq, reason") == exposed
    columns = "seq, flag, rule, segment, assignment_id"
    assert ask(store, f"select {columns} from fallthrough_exposures order by seq") == passed
    columns = "seq, kind, flag, rule, variant, assignment_id"
    assert sorted(ask(store, f"select {columns} from resolve_counts"), key=repr) == sorted(counted, key=repr)


def test_what_has_no_name_is_null(deliver: Deliver, store: Store) -> None:
    """A token knows no segment of a rule that was passed; a client default has no variant, an error no rule."""
    unknown = Fallthrough(segment="", assignment_id="")
    default = decided(segment="", variant="", assignment_id="", fallthroughs=(unknown,))
    deliver(body(request(default, decided(flag="flags/e", rule="", variant=""), no_match("flags/f", "ERROR"))))
    columns = "flag, rule, segment, variant, assignment_id, targeting_key_selector"
    assert ask(store, f"select {columns}, reason, is_default from exposures order by flag") == [
        ("flags/a", "flags/a/rules/r", None, None, None, "visitor_id", "MATCH", True),
        ("flags/e", None, None, None, "flags/a/variants/on", None, "MATCH", True),
        ("flags/f", None, None, None, None, None, "ERROR", True),
    ]
    assert ask(store, "select rule, segment, assignment_id, targeting_key_selector from fallthrough_exposures") == [
        ("flags/a/rules/holdout", None, None, "visitor_id")
    ]


def test_a_name_that_cannot_be_built_otherwise_is_read(deliver: Deliver, store: Store) -> None:
    """A name behind a slash is whole although it could be short, and the empty name stands behind one too."""
    built = message(request(decided(unit="u1"), decided(unit="u2", flag="", rule="/x", variant="v")))
    assert built["flags"] == ["a", None]
    built["flags"] = ["/flags/a", "/"]
    built["rules"]["rule"] = ["/flags/a/rules/r", "/"]
    deliver(compact(built))
    assert ask(store, "select targeting_key, flag, rule, variant from exposures order by all") == [
        ("u1", "flags/a", "flags/a/rules/r", "flags/a/variants/on"),
        ("u2", "", "", "v"),
    ]


def test_what_has_no_variant_is_a_default(deliver: Deliver, store: Store) -> None:
    """The client default is a MATCH without a variant; it and every other reason count as default."""
    deliver(body(request(decided(), decided(flag="flags/d", variant=""), no_match(reason="TARGETING_KEY_ERROR"))))
    assert ask(store, "select reason, variant is null, is_default from exposures order by flag") == [
        ("MATCH", False, False),
        ("TARGETING_KEY_ERROR", True, True),
        ("MATCH", True, True),
    ]


def test_the_time_of_application_is_the_columns_when_there_is_one(deliver: Deliver, store: Store) -> None:
    """applied_at is the exposure's own time where given, received_at always the resolve's."""
    passed = Fallthrough()
    deliver(body(request(decided(applied_at_ms=AT_MS - 2000, fallthroughs=(passed,)), no_match())))
    expected = [(2000,), (0,)]
    assert ask(store, "select datediff('ms', applied_at, received_at) from exposures order by flag") == expected
    assert ask(store, "select datediff('ms', applied_at, received_at) from fallthrough_exposures") == [(2000,)]


def test_fallthroughs_keep_their_order_within_the_exposure(deliver: Deliver, store: Store) -> None:
    """position counts the rules that this exposure passed through, from 0, interleaved or not."""
    rules = [Fallthrough(rule=f"flags/a/rules/{name}", unit=f"unit-{name}") for name in "xyz"]
    built = message(request(decided(fallthroughs=tuple(rules[:2])), decided(flag="flags/c", fallthroughs=(rules[2],))))
    columns = built["fallthroughs"]
    order = [0, 2, 1]
    built["fallthroughs"] = {name: [values[i] for i in order] for name, values in columns.items()}
    deliver(compact(built))
    rows = ask(store, "select flag, position, rule[-1:], targeting_key, client from fallthrough_exposures order by all")
    assert rows == [
        ("flags/a", 0, "x", "unit-x", "clients/web"),
        ("flags/a", 1, "y", "unit-y", "clients/web"),
        ("flags/c", 0, "z", "unit-z", "clients/web"),
    ]


def test_counts_schemas_and_telemetry_land(deliver: Deliver, store: Store) -> None:
    """The parts of a message that are no exposures have their own tables."""
    schemas = [{"client": 0, "schema": {"visitor_id": "STRING_KIND"}, "semantic_types": {}}]
    latency = {"sum_us": 1000, "count": 1, "buckets": {"54": 1}}
    telemetry = {"resolve_count": 1, "error_count": 2, "latency": latency}
    twice = request(decided(), decided(fallthroughs=(Fallthrough(),)), no_match())
    deliver(body(twice, schemas=schemas, telemetry=telemetry))
    counts = ask(store, "select flag, kind, reason, resolve_count, client from resolve_counts order by all")
    assert counts == [
        ("flags/a", "fallthrough", None, 1, "clients/web"),
        ("flags/a", "match", "MATCH", 2, "clients/web"),
        ("flags/b", "no_match", "NO_SEGMENT_MATCH", 1, "clients/web"),
    ]
    assert ask(store, "select client, schema ->> 'visitor_id' from context_schemas") == [("clients/web", "STRING_KIND")]
    telemetry_row = ask(
        store, "select resolve_count, error_count, latency_sum_us, latency_buckets::varchar from telemetry"
    )
    assert telemetry_row == [(1, 2, 1000, '{"54":1}')]


def test_a_message_of_telemetry_alone_lands(deliver: Deliver, store: Store) -> None:
    """Empty dictionaries and columns are whole ones."""
    none: dict[str, Any] = {name: [] for name in ("clients", "origins", "units", "flags", "selectors", "reasons")}
    columns = ("rules", "outcomes", "resolves", "exposures", "fallthroughs", "counts")
    none |= {name: {key: [] for key in message()[name]} for name in columns}
    assert deliver(body(**none, row_count=0, telemetry={"resolve_count": 0, "error_count": 3})).loaded_count == 1
    assert ask(store, "select error_count, latency_sum_us from telemetry") == [(3, None)]


def test_the_ledger_says_what_landed(deliver: Deliver, store: Store) -> None:
    """One row per message, with its row count, its losses and its size."""
    text = body(seq=7, dropped_count=2)
    deliver(text)
    row = ask(store, "select isolate, seq, row_count, dropped_count, landed_at, duplicate_count, bytes from ledger")
    assert row == [(ISOLATE, 7, 3, 2, NOW, 0, len(text.encode()))]


def test_a_redelivery_is_counted_and_inserts_nothing(deliver: Deliver, store: Store) -> None:
    """Duplicates inside a pull and across pulls leave one set of rows and a count in the ledger."""
    again = body(seq=1)
    first = deliver(again, again, body(seq=2))
    second = deliver(body(seq=3), again, again)
    assert (first.loaded_count, first.duplicate_count) == (2, 1)
    assert (second.loaded_count, second.duplicate_count) == (1, 2)
    assert ask(store, "select seq, duplicate_count from ledger order by seq") == [(1, 3), (2, 0), (3, 0)]
    assert ask(store, "select seq, count(*) from exposures group by seq order by seq") == [(1, 1), (2, 1), (3, 1)]


def test_later_batches_are_not_planned_with_the_first_ones_values(deliver: Deliver, store: Store) -> None:
    """A first batch of small keys and no faults does not decide how later ones are read (seen with DuckDB 1.5.5)."""
    for start in range(0, 600, 100):
        deliver(*(body(seq=seq) for seq in range(start, start + 100)))
    loaded = deliver(body(seq=70_000), "poison", body(seq=2**40), body(seq=1))
    assert (loaded.loaded_count, loaded.rejected_count, loaded.duplicate_count) == (2, 1, 1)
    assert ask(store, "select count(*), count(distinct seq), max(seq) from exposures") == [(602, 602, 2**40)]


@pytest.mark.parametrize("content_type", ["text", "json", "bytes", None])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_body_is_read_as_its_content_type_says(
    deliver: Deliver, store: Store, content_type: str | None, *, wrapped: bool
) -> None:
    """Text is plain, json and bytes base64; both may hold a JSON string that holds the JSON."""
    deliver(json.dumps(body()) if wrapped else body(), content_type=content_type)
    assert ask(store, "select count(*) from exposures") == [(1,)]


def test_raw_json_is_read_despite_its_type(deliver: Deliver, store: Store) -> None:
    """A body that should be base64 and is not is taken as it is."""
    deliver(body(), content_type="json", encode=False)
    assert ask(store, "select count(*) from exposures") == [(1,)]


def _without(key: str) -> str:
    built = message()
    del built[key]
    return compact(built)


def _with_column(table: str, column: str, values: Any) -> str:
    built = message()
    return compact(built | {table: built[table] | {column: values}})


def _fall_through_without_rule() -> str:
    """The reason stands twice in its dictionary, and the second is the one that is meant."""
    built = message(request(no_match(), decided(fallthroughs=(Fallthrough(),)), no_match()))
    outcomes = built["outcomes"]
    assert outcomes["reason"] == [0, 1, 2]
    again = {"rule": [-1, 0, -1], "reason": [0, 1, 3]}
    return compact(built | {"outcomes": outcomes | again, "reasons": [*built["reasons"], "FALLTHROUGH"]})


LEVELS = {
    "rules": ("flag", "rule", "segment", "selector"),
    "outcomes": ("flag", "rule", "reason", "variant", "assignment_id"),
}
POISON = {
    "empty": ("", "not JSON"),
    "text": ("poison", "not JSON"),
    "cut": (body()[:-20], "not JSON"),
    "array": ("[1]", "unknown format"),
    "format": (body(format="flagedge/2"), "unknown format"),
    "no format": ("{}", "unknown format"),
    **{
        key: (_without(key), "envelope key missing or of wrong type")
        for key in ("isolate", "seq", "sent_at_ms", "row_count")
    },
    "seq text": (body(seq="4"), "envelope key missing or of wrong type"),
    "seq null": (body(seq=None), "envelope key missing or of wrong type"),
    "seq negative": (body(seq=-1), "envelope key missing or of wrong type"),
    "seq huge": (body(seq=2**63), "envelope key missing or of wrong type"),
    **{
        f"{key} beyond JavaScript": (body(**{key: 2**53}), "envelope key missing or of wrong type")
        for key in ("seq", "row_count", "dropped_count")
    },
    "isolate number": (body(isolate=5), "envelope key missing or of wrong type"),
    "sent in year 300,000": (body(sent_at_ms=9 * 10**15), "envelope key missing or of wrong type"),
    "no units": (_without("units"), "dictionary missing, or an entry without its keys"),
    "units an object": (body(units={"a": 1}), "dictionary missing, or an entry without its keys"),
    "flags null": (body(flags=None), "dictionary missing, or an entry without its keys"),
    "flag null": (body(flags=[None]), "dictionary missing, or an entry without its keys"),
    "selector null": (body(selectors=[None]), "dictionary missing, or an entry without its keys"),
    "reason null": (body(reasons=[None]), "dictionary missing, or an entry without its keys"),
    "no rules": (_without("rules"), "dictionary missing, or an entry without its keys"),
    "rule null": (_with_column("rules", "rule", [None]), "dictionary missing, or an entry without its keys"),
    "no outcomes": (_without("outcomes"), "column missing or of another length"),
    "outcomes a list": (
        body(outcomes=[{"flag": "flags/a", "kind": "no_match", "reason": "ERROR"}]),
        "column missing or of another length",
    ),
    **{
        f"{table}.{column} {how}": (_with_column(table, column, values), "column missing or of another length")
        for table, columns in LEVELS.items()
        for column in columns
        for how, values in {"missing": None, "empty": []}.items()
        if (table, column, how) != ("rules", "rule", "missing")
    },
    "exposures a list": (body(exposures=[]), "column missing or of another length"),
    "no counts": (_without("counts"), "column missing or of another length"),
    "long column": (_with_column("exposures", "unit", [0, 0]), "column missing or of another length"),
    "applied too short": (_with_column("exposures", "applied_at_ms", []), "column missing or of another length"),
    "row_count": (body(row_count=4), "row_count does not come out"),
    "unit beyond": (_with_column("exposures", "unit", [1]), "index out of its dictionary"),
    "unit -2": (_with_column("exposures", "unit", [-2]), "index out of its dictionary"),
    "outcome -1": (_with_column("exposures", "outcome", [-1]), "index out of its dictionary"),
    **{
        f"{table}.{column} {index}": (_with_column(table, column, [index]), "index out of its dictionary")
        for table, column in [("rules", "flag"), ("rules", "selector"), ("outcomes", "flag"), ("outcomes", "reason")]
        for index in (-1, 1, None, "x")
    },
    **{
        f"outcomes.rule {index}": (_with_column("outcomes", "rule", [index]), "index out of its dictionary")
        for index in (-2, 1, None, "x")
    },
    "count of outcome": (_with_column("counts", "outcome", [1]), "index out of its dictionary"),
    "fall-through of no rule": (_fall_through_without_rule(), "fall-through without a rule"),
    "index text": (_with_column("exposures", "outcome", ["x"]), "index out of its dictionary"),
    "index null": (_with_column("exposures", "resolve", [None]), "index out of its dictionary"),
    "origin without client": (body(origins=[{"source": "api"}]), "index out of its dictionary"),
    "schema of nobody": (body(schemas=[{"client": 9}]), "index out of its dictionary"),
    "time": (_with_column("resolves", "at_ms", [9 * 10**18]), "value of wrong type or out of range"),
    "time text": (_with_column("resolves", "at_ms", ["soon"]), "value of wrong type or out of range"),
    "time negative": (_with_column("exposures", "applied_at_ms", [-1]), "value of wrong type or out of range"),
    **{
        f"count {count}": (_with_column("counts", "count", [count]), "value of wrong type or out of range")
        for count in (-1, 2**53)
    },
    **{
        f"latency buckets {buckets}": (
            body(telemetry={"latency": {"buckets": buckets}}),
            "value of wrong type or out of range",
        )
        for buckets in ("none", [1], {"a": 1}, {str(2**31): 1})
    },
    "errors": (body(telemetry={"error_count": 2**53}), "value of wrong type or out of range"),
}


@pytest.mark.parametrize("name", POISON)
def test_a_bad_message_is_kept_and_blocks_nobody(deliver: Deliver, store: Store, name: str) -> None:
    """It goes to rejected_messages as it was received, with the reason; its neighbours land."""
    poison, reason = POISON[name]
    loaded = deliver(body(seq=10), poison, body(seq=11))
    assert (loaded.loaded_count, loaded.rejected_count) == (2, 1)
    assert ask(store, "select body, content_type, reason, attempts, rejected_at from rejected_messages") == [
        (poison, "text", reason, 1, NOW)
    ]
    assert ask(store, "select seq from exposures order by seq") == [(10,), (11,)]


def test_a_rejected_message_is_kept_in_its_transfer_coding_and_once(deliver: Deliver, store: Store) -> None:
    """The raw body is what the queue handed over, base64 included; a redelivery does not keep it twice."""
    queue = FakeQueue()
    deliver("{}", queue=queue, content_type="json")
    queue.end_leases()
    load_next(store, queue)
    assert ask(store, "select body, content_type, attempts from rejected_messages") == [("e30=", "json", 1)]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_land_unharmed(deliver: Deliver, store: Store, value: str) -> None:
    """A value is data, whatever it looks like."""
    deliver(body(request(decided(unit=value, flag=value, fallthroughs=(Fallthrough(unit=value),)), country=value)))
    assert ask(store, "select targeting_key, flag, country from exposures") == [(value, value, value)]
    assert ask(store, "select targeting_key from fallthrough_exposures") == [(value,)]


def test_half_a_surrogate_pair_does_not_cost_the_message(deliver: Deliver, store: Store) -> None:
    """What JavaScript writes for ill-formed text becomes U+FFFD; whole pairs and escaped backslashes stay."""
    text = compact(message(request(decided(unit="UNIT")))).replace(
        "UNIT", r"a\ud800b\uDC00 \ud83e\udd86 \\ud800 \u00e9"
    )
    deliver(text)
    assert ask(store, "select targeting_key from exposures") == [("a\ufffdb\ufffd 🦆 \\ud800 é",)]


@pytest.mark.parametrize("text", ["", "<html>", "{}", '{"result": {"messages": {}}}', '{"result": {"messages": [{}]}}'])
def test_an_answer_that_is_no_list_of_messages_is_no_empty_queue(store: Store, text: str) -> None:
    """A pull that cannot be read fails; only an empty list is empty."""
    with pytest.raises(DecodeError, match="the queue's answer to a pull"):
        decode(store.connection, [pull_response(), text], now=NOW)
    assert decode(store.connection, [pull_response()], now=NOW).message_count == 0


def test_leases_come_out_in_the_order_of_the_answers(store: Store) -> None:
    """Every message's lease is acked, a rejected one's too, over all answers of a batch."""
    sent = [Message(f"{i}", "x" if i % 2 else body(seq=i), "text", lease_id=f"lease-{i}") for i in range(250)]
    answers = [pull_response(*sent[at : at + 100]) for at in (0, 100, 200)]
    assert decode(store.connection, answers, now=NOW).lease_ids == tuple(f"lease-{i}" for i in range(250))


def test_passing_batches_through_does_not_keep_memory(deliver: Deliver, store: Store) -> None:
    """What a batch passes through is given back: truncating alone would keep all of it."""
    bodies = [body(*(busy_request(i) for i in range(5)), seq=0)] * 20
    sizes = []
    for _ in range(8):
        deliver(*bodies)
        sizes.append(
            ask(store, "select sum(memory_usage_bytes) from duckdb_memory() where tag = 'IN_MEMORY_TABLE'")[0][0]
        )
    assert sizes[-1] <= sizes[1] * 1.2
