"""Messages of the official Worker's form become the same rows as ours, as far as they say the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shop
from deliveries import NOW, ask, load_next
from fake_queue import QUEUE_ID, FakeQueue
from messages import body, decided, request
from workerd import TestWorker

from log_consumer.cut import cut_units
from log_consumer.load import Loaded, decode, make_stage
from log_consumer.rebuild import read_message
from log_consumer.store import Store

Deliver = Callable[..., Loaded]

APPLIED: dict[str, Any] = {
    "flag": "flags/a",
    "targetingKey": "visitor-17",
    "targetingKeySelector": "visitor_id",
    "assignmentInfo": {"segment": "segments/s", "variant": "flags/a/variants/on"},
    "assignmentId": "flags/a/variants/on",
    "rule": "flags/a/rules/r",
    "applyTime": "2026-11-21T10:00:00.123456789Z",
    "fallthroughAssignments": [
        {
            "rule": "flags/a/rules/holdout",
            "assignmentId": "out",
            "targetingKey": "visitor-17",
            "targetingKeySelector": "visitor_id",
        }
    ],
}
DEFAULTED: dict[str, Any] = {"flag": "flags/b", "defaultAssignment": {"reason": "NO_SEGMENT_MATCH"}}
MESSAGE: dict[str, Any] = {
    "flagAssigned": [
        {
            "resolveId": "F9JOaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "clientInfo": {"client": "clients/web", "clientCredential": "clients/web/clientCredentials/k"},
            "flags": [APPLIED, DEFAULTED],
        }
    ],
    "telemetryData": {
        "sdk": {"id": "SDK_ID_CLOUDFLARE_RESOLVER", "version": "0.9.1"},
        "resolveLatency": {
            "sum": 2000,
            "count": 2,
            "buckets": [{"offset": 54, "counts": [1]}, {"offset": 54, "counts": [0, 1]}],
            "lnRatio": 0.12792139405522476,
        },
        "resolveRate": [
            {"count": 2, "reason": "RESOLVE_REASON_MATCH"},
            {"count": 3, "reason": "RESOLVE_REASON_ERROR"},
        ],
    },
    "clientResolveInfo": [
        {
            "client": "clients/web",
            "clientCredential": "clients/web/clientCredentials/k",
            "schema": [{"schema": {"visitor_id": "STRING_KIND"}, "semanticTypes": {}}],
        }
    ],
    "flagResolveInfo": [
        {
            "flag": "flags/a",
            "variantResolveInfo": [{"variant": "flags/a/variants/on", "count": "1"}],
            "ruleResolveInfo": [
                {
                    "rule": "flags/a/rules/holdout",
                    "count": "1",
                    "assignmentResolveInfo": [{"assignmentId": "out", "count": "1"}],
                },
                {
                    "rule": "flags/a/rules/r",
                    "count": "1",
                    "assignmentResolveInfo": [{"assignmentId": "flags/a/variants/on", "count": "1"}],
                },
            ],
        },
        {"flag": "flags/b", "variantResolveInfo": [{"count": "1"}]},
    ],
}
SHARED = (
    "flag, rule, variant, segment, assignment_id, targeting_key, is_default, client, client_credential, worker_version"
)


def changed(path: str, value: Any) -> str:
    """The message with another value at a path such as flagAssigned.0.flags; ... takes the key away."""
    message = json.loads(json.dumps(MESSAGE))
    *parents, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
    target = message
    for key in parents:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(message)


def as_json(queue: FakeQueue, *texts: str) -> None:
    """Send as the official Worker does: the text once more as a JSON string."""
    queue.send(*(json.dumps(text) for text in texts), content_type="json")


@pytest.mark.parametrize("linger_ms", ["0", "50"])
def test_both_forms_become_the_same_exposures(test_worker: TestWorker, tmp_path: Path, linger_ms: str) -> None:
    """The same requests, logged in either form by the real Worker: equal rows, and equal sums."""
    bodies = [
        {"flags": [], "clientSecret": shop.WEB_SECRET, "evaluationContext": context, "apply": True}
        for context in shop.visitors(60, seed=3)
    ]
    seen = []
    for form in ("flagedge", "upstream"):
        env = {"DEPLOYER_VERSION": "9.9", "LOG_LINGER_MS": linger_ms, "LOG_FORMAT": form}
        messages = test_worker.resolve(shop.shop_payload(), bodies, env=env).messages
        with Store(str(tmp_path / f"{form}.duckdb")) as store:
            make_stage(store.connection)
            queue = FakeQueue()
            as_json(queue, *(json.dumps(each) for each in messages))

            assert load_next(store, queue).rejected_count == 0
            seen.append(
                [
                    ask(store, f"select {SHARED}, count(*) from exposures group by all order by all"),
                    ask(store, "select flag, rule, targeting_key, position from fallthrough_exposures order by all"),
                    ask(
                        store,
                        "select flag, variant, sum(resolve_count) from resolve_counts "
                        "where kind not in ('rule', 'fallthrough') group by all order by all",
                    ),
                    ask(store, "select distinct client, schema::varchar from context_schemas order by all"),
                    ask(store, "select sum(latency_count), sum(error_count) from telemetry"),
                ]
            )
    ours, upstreams = seen
    assert ours[0]
    assert ours[1]
    assert upstreams == ours


def test_a_message_in_full(deliver: Deliver, store: Store) -> None:
    """Every column that upstream's form can fill."""
    loaded = deliver(json.dumps(MESSAGE))
    assert (loaded.loaded_count, loaded.rejected_count) == (1, 0)
    assert ask(
        store,
        "select applied_at::varchar, flag, rule, variant, segment, targeting_key_selector, reason, is_default, "
        "resolve_id, source, state_etag, worker_version, seq from exposures order by flag",
    ) == [
        (
            "2026-11-21 10:00:00.123456",
            "flags/a",
            "flags/a/rules/r",
            "flags/a/variants/on",
            "segments/s",
            "visitor_id",
            "MATCH",
            False,
            "F9JOaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            None,
            None,
            "0.9.1",
            0,
        ),
        # Without a time of its own, an exposure has that at which its message was queued.
        (
            ask(store, "select sent_at::varchar from ledger")[0][0],
            "flags/b",
            None,
            None,
            None,
            None,
            "NO_SEGMENT_MATCH",
            True,
            "F9JOaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            None,
            None,
            "0.9.1",
            0,
        ),
    ]
    assert ask(store, "select rule, assignment_id, position from fallthrough_exposures") == [
        ("flags/a/rules/holdout", "out", 0)
    ]
    assert ask(
        store, "select flag, kind, rule, variant, assignment_id, resolve_count, client from resolve_counts order by all"
    ) == [
        ("flags/a", "match", None, "flags/a/variants/on", None, 1, "clients/web"),
        ("flags/a", "rule", "flags/a/rules/holdout", None, "out", 1, "clients/web"),
        ("flags/a", "rule", "flags/a/rules/r", None, "flags/a/variants/on", 1, "clients/web"),
        ("flags/b", "no_match", None, None, None, 1, "clients/web"),
    ]
    [(resolves, errors, total, count, buckets)] = ask(
        store,
        "select resolve_count, error_count, latency_sum_us, latency_count, latency_buckets::varchar from telemetry",
    )
    assert (resolves, errors, total, count) == (2, 3, 2000, 2)
    assert json.loads(buckets) == {"54": 1, "55": 1}
    assert ask(store, "select format from ledger") == [("upstream",)]


def test_a_redelivery_lands_once_in_whatever_coding(deliver: Deliver, store: Store) -> None:
    """The digest is of the message's text, not of how the queue coded it, nor of when it was queued."""
    text = json.dumps(MESSAGE)
    deliver(text)
    queue = FakeQueue()
    as_json(queue, text)
    assert deliver(text, text, queue=queue).duplicate_count == 3
    assert ask(store, "select count(*), count(distinct flag) from exposures") == [(2, 2)]
    assert ask(store, "select duplicate_count from ledger") == [(3,)]


def test_messages_that_say_the_same_without_an_id_all_count(deliver: Deliver, store: Store) -> None:
    """A failed resolve logs telemetry alone, often the same to the byte: the queue's id tells them apart."""
    text = json.dumps({"telemetryData": MESSAGE["telemetryData"]})
    queue = FakeQueue()
    queue.send(text, text)
    deliver(queue=queue)
    queue.end_leases()
    assert deliver(queue=queue).duplicate_count == 2
    assert ask(store, "select count(*) from telemetry") == [(2,)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("flagAssigned", {"resolveId": "x"}),
        ("flagAssigned.0", None),
        ("flagAssigned.0.flags", {"flag": "flags/a"}),
        ("flagAssigned.0.flags", "flags/a"),
        ("flagAssigned.0.flags.0", None),
        ("flagAssigned.0.flags.0", "flags/a"),
        ("flagAssigned.0.flags.0.flag", ...),
        ("flagAssigned.0.flags.0.assignmentInfo", ...),
        ("flagAssigned.0.flags.0.applyTime", "yesterday"),
        ("flagAssigned.0.flags.0.applyTime", "infinity"),
        ("flagAssigned.0.flags.0.fallthroughAssignments", {"rule": "r"}),
        ("flagAssigned.0.flags.0.fallthroughAssignments", [{"assignmentId": "a"}]),
        ("flagResolveInfo", "none"),
        ("flagResolveInfo.0.flag", ...),
        ("flagResolveInfo.0.variantResolveInfo", {"variant": "v"}),
        ("flagResolveInfo.0.variantResolveInfo.0.count", "many"),
        ("flagResolveInfo.0.variantResolveInfo.0.count", str(2**53)),
        ("flagResolveInfo.0.variantResolveInfo.0.count", -1),
        ("flagResolveInfo.0.ruleResolveInfo", {"rule": "r"}),
        ("clientResolveInfo", {}),
        ("clientResolveInfo.0.clientCredential", ...),
        ("clientResolveInfo.0.schema", {"schema": {}}),
    ],
)
def test_a_wrong_shape_is_rejected_and_not_taken_for_nothing(
    deliver: Deliver, store: Store, path: str, value: Any
) -> None:
    loaded = deliver(changed(path, value), body(request(decided())))
    assert (loaded.loaded_count, loaded.rejected_count) == (1, 1)
    assert ask(store, "select count(*) from exposures") == [(1,)]
    assert ask(store, "select body from rejected_messages") == [(changed(path, value),)]


@pytest.mark.parametrize("text", ["{}", '{"a": 1}', '{"flagassigned": []}', "[]", "null", '"x"', "17"])
def test_other_json_is_rejected(deliver: Deliver, text: str) -> None:
    assert deliver(text).rejected_count == 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("flagAssigned.0.flags", ...),
        ("flagAssigned.0.flags.0.fallthroughAssignments", ...),
        ("flagAssigned.0.clientInfo", ...),
        ("flagResolveInfo", ...),
        ("flagResolveInfo.0.ruleResolveInfo", ...),
        ("clientResolveInfo", ...),
        ("telemetryData", ...),
        ("telemetryData.resolveLatency", ...),
        ("telemetryData.resolveRate", ...),
        # A null says the same.
        ("flagAssigned", None),
        ("flagAssigned.0.flags", None),
        ("flagAssigned.0.resolveId", None),
        ("flagAssigned.0.flags.0.targetingKey", None),
        ("flagAssigned.0.flags.0.fallthroughAssignments", None),
        ("flagAssigned.0.flags.0.fallthroughAssignments.0.targetingKey", None),
        ("flagResolveInfo", None),
        ("clientResolveInfo", None),
        ("telemetryData", None),
    ],
)
def test_what_may_be_left_out(deliver: Deliver, path: str, value: Any) -> None:
    """It lands, can be forwarded, and others can be cut out of it."""
    text = changed(path, value)
    assert deliver(text).loaded_count == 1
    assert read_message(text).to_json()
    assert read_message(cut_units(text, ["nobody"])).to_json() == read_message(text).to_json()


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59.999999999Z", "1600-01-01T00:00:00Z"])
def test_a_clock_that_is_far_off_costs_no_message(deliver: Deliver, store: Store, at: str) -> None:
    """The official Worker takes the time of application as its client says it."""
    assert deliver(changed("flagAssigned.0.flags.0.applyTime", at)).loaded_count == 1
    assert ask(store, "select min(year(applied_at)), max(year(applied_at)) from exposures where flag = 'flags/a'") == [
        (int(at[:4]), int(at[:4]))
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("telemetryData.resolveLatency.buckets.0.offset", 2**63 - 1),
        ("telemetryData.resolveLatency.buckets.0.offset", -(2**63)),
        ("telemetryData.resolveLatency.buckets.0.counts", [2**63 - 1, 1]),
        ("telemetryData.resolveLatency.buckets", [{"counts": [2**63 - 1]}] * 2),
        ("telemetryData.resolveLatency.count", 2**63 - 1),
        ("telemetryData.resolveRate", [{"count": 2**63 - 1, "reason": "RESOLVE_REASON_ERROR"}] * 2),
        ("flagResolveInfo.0.ruleResolveInfo.0.assignmentResolveInfo.0.count", 2**63 - 1),
        ("flagResolveInfo.0.ruleResolveInfo.0.assignmentResolveInfo.0.count", -(2**63)),
    ],
)
def test_numbers_out_of_range_stop_neither_drain_nor_views(
    deliver: Deliver, store: Store, path: str, value: Any
) -> None:
    """A batch that always fails would be delivered again for ever; so would a view."""
    texts = [changed(path, value).replace("F9JO", f"F9J{number}") for number in range(2)]
    assert deliver(*texts).loaded_count == 2
    views = ask(store, "select view_name from duckdb_views() where database_name = 'store' and not internal")
    for (view,) in views:
        ask(store, f"from {view}")


def test_what_the_queue_does_not_date_is_dated(deliver: Deliver, store: Store) -> None:
    """Without a time it would never age, and a lake would not know its redelivery."""
    batch = FakeQueue(json.dumps(MESSAGE)).pull_messages(QUEUE_ID, visibility_timeout_ms=1000)
    decode(store.connection, [batch.replace('"timestamp_ms"', '"at_ms"')], now=NOW)
    assert store.connection.execute("select sent_at from judged").fetchall() == [(NOW,)]


def test_landed_at_is_told(deliver: Deliver, store: Store) -> None:
    deliver(json.dumps(MESSAGE))
    assert ask(store, "select landed_at from ledger") == [(NOW,)]
