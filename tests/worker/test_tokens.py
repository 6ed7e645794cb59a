"""Apply tokens: what the Worker seals its Python twin opens, and back; every failure to open looks the same."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from builders import ACCOUNT, SECRET, assignment, client, credential, fallthrough, flag, payload, rule, state, variant
from workerd import Answer, Batch, TestWorker

from flagedge.errors import DecodeError
from flagedge.wire import token_pb2
from sync_job.compile import compile_plan
from sync_job.compiled import Plan
from sync_job.decode import decode_state
from sync_job.token import open_token, seal_token, seal_upstream_token

KEY = bytes(range(16))
OTHER_KEY = bytes(range(1, 17))
NOW = "2026-01-01T00:00:00Z"

PAYLOAD = payload(
    state(
        flag("a", rule(assignments=[assignment("on")], selector="visitor_id"), clients=("c", "d")),
        flag(
            "b",
            rule("through", assignments=[fallthrough((0, 100))]),
            rule("last"),
            variants=[variant("on"), variant("off")],
        ),
        clients=[client("c"), client("d")],
        credentials=[credential("k"), credential("k", client="d", secret="secret-of-d")],
    )
)


def plan() -> Plan:
    return compile_plan(decode_state(PAYLOAD), etag='"e"')


def environment(**more: Any) -> dict[str, Any]:
    key = base64.b64encode(KEY).decode()
    return {"FORCE_APPLY": "false", "RESOLVE_TOKEN_ENCRYPTION_KEY": key} | more


def resolved(worker: TestWorker, **env: Any) -> dict[str, Any]:
    """The answer to a resolve that does not apply."""
    context = {"visitor_id": "v", "targeting_key": "t"}
    body = {"clientSecret": SECRET, "evaluationContext": context, "apply": False}
    answer: dict[str, Any] = worker.resolve(PAYLOAD, [body], env=environment(**env)).answers[0].json
    return answer


def apply_body(token: str, **more: Any) -> dict[str, Any]:
    flags = [{"flag": "flags/a", "applyTime": NOW}, {"flag": "flags/b", "applyTime": NOW}]
    return {"flags": flags, "clientSecret": SECRET, "resolveToken": token, "sendTime": NOW} | more


def apply(worker: TestWorker, *bodies: dict[str, Any], **env: Any) -> Batch:
    import json  # noqa: PLC0415

    requests = [{"path": "/v1/flags:apply", "body": json.dumps(body)} for body in bodies]
    return worker.run(plan(), requests, env=environment(**env))


def test_worker_seals_what_python_opens(test_worker: TestWorker) -> None:
    """A token holds resolve id and assignments, and is bound to account and client."""
    answer = resolved(test_worker)
    token = base64.b64decode(answer["resolveToken"])
    opened = open_token(token, KEY, account=ACCOUNT, client="clients/c")
    assert opened.body.resolve_id == answer["resolveId"]
    assert opened.body.assignments["flags/a"].targeting_key == "v"
    assert opened.body.assignments["flags/a"].variant == "flags/a/variants/on"
    assert [passed.rule for passed in opened.body.assignments["flags/b"].fallthrough_assignments] == [
        "flags/b/rules/through"
    ]
    assert opened.expires_at_s - opened.issued_at_s == 30 * 86_400
    with pytest.raises(DecodeError):
        open_token(token, KEY, account=ACCOUNT, client="clients/d")


def test_apply_logs_what_was_resolved(test_worker: TestWorker) -> None:
    """An applied token becomes exposures with the resolve's id, flag by flag, fall-throughs included."""
    answer = resolved(test_worker)
    batch = apply(test_worker, apply_body(answer["resolveToken"]))
    assert batch.answers == [Answer(200, "{}")]
    [message] = batch.messages
    assert message["resolves"]["id"] == [answer["resolveId"]]
    assert message["origins"][0]["source"] == "apply"
    flags = [message["flags"][number] for number in message["outcomes"]["flag"]]
    reasons = [message["reasons"][number] for number in message["outcomes"]["reason"]]
    assert sorted(zip(flags, reasons, strict=True)) == [("a", "MATCH"), ("b", "FALLTHROUGH"), ("b", "MATCH")]
    assert len(message["exposures"]["applied_at_ms"]) == 2


def test_resolve_without_apply_logs_no_exposure(test_worker: TestWorker) -> None:
    """A resolve that does not apply is counted, not exposed."""
    body = {"clientSecret": SECRET, "evaluationContext": {"visitor_id": "v"}, "apply": False}
    [message] = test_worker.resolve(PAYLOAD, [body], env=environment()).messages
    assert message["exposures"]["resolve"] == []
    assert len(message["counts"]["count"]) > 0


def test_force_apply_is_on_by_default(test_worker: TestWorker) -> None:
    """As upstream: unless told otherwise, every resolve applies, and there is no token to open."""
    body = {"clientSecret": SECRET, "evaluationContext": {"visitor_id": "v"}, "apply": False}
    batch = test_worker.resolve(PAYLOAD, [body], env=environment(FORCE_APPLY=""))
    assert batch.answers[0].json["resolveToken"] == ""
    assert batch.messages[0]["exposures"]["resolve"] != []


def test_python_seals_what_the_worker_opens(test_worker: TestWorker) -> None:
    """Tokens of the twin open in the Worker, both forms."""
    body = token_pb2.ResolveTokenV1(resolve_id="r" * 32)
    body.assignments["flags/a"].flag = "flags/a"
    body.assignments["flags/a"].rule = "flags/a/rules/r"
    now = int(time.time())
    ours = seal_token(body, KEY, account=ACCOUNT, client="clients/c", issued_at_s=now, ttl_s=60)
    for token in (ours, seal_upstream_token(body, KEY)):
        request = apply_body(base64.b64encode(token).decode(), flags=[{"flag": "flags/a", "applyTime": NOW}])
        assert apply(test_worker, request).answers == [Answer(200, "{}")]


def test_upstream_format_on_demand(test_worker: TestWorker) -> None:
    """TOKEN_FORMAT=upstream seals as the official Worker does, which can then open it."""
    token = base64.b64decode(resolved(test_worker, TOKEN_FORMAT="upstream")["resolveToken"])
    assert len(token) % 16 == 0
    assert open_token(token, KEY, account="any", client="any").issued_at_s == 0


def test_upstream_vectors_open(test_worker: TestWorker, reference_vectors: dict[str, list[dict[str, Any]]]) -> None:
    """Tokens that the official build sealed open in Python and in the Worker."""
    for vector in reference_vectors["token"]:
        key = base64.b64decode(vector["key_b64"])
        opened = open_token(base64.b64decode(vector["token_b64"]), key, account="x", client="y")
        flags = [{"flag": name, "applyTime": NOW} for name in opened.body.assignments]
        batch = apply(
            test_worker, apply_body(vector["token_b64"], flags=flags), RESOLVE_TOKEN_ENCRYPTION_KEY=vector["key_b64"]
        )
        assert batch.answers[0].status == 200


def test_every_failure_to_open_looks_the_same(
    test_worker: TestWorker, reference_vectors: dict[str, list[dict[str, Any]]]
) -> None:
    """Wrong key, padding, tag, client, age or content: one status, one body."""
    good = base64.b64decode(resolved(test_worker)["resolveToken"])
    body = token_pb2.ResolveTokenV1(resolve_id="r")
    expired = seal_token(body, KEY, account=ACCOUNT, client="clients/c", issued_at_s=1_000_000, ttl_s=60)
    cbc = seal_upstream_token(body, KEY)
    bad = [
        good[:-1],
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:10],
        b"\x01" * 64,
        expired,
        seal_token(body, OTHER_KEY, account=ACCOUNT, client="clients/c", issued_at_s=2**31, ttl_s=60),
        seal_token(body, KEY, account=ACCOUNT, client="clients/d", issued_at_s=2**31, ttl_s=60),
        *(cbc[:-1] + bytes([cbc[-1] ^ flip]) for flip in range(1, 256, 7)),
        seal_upstream_token(body, OTHER_KEY),
        cbc[:16],
    ]
    bad += [
        base64.b64decode(vector["token_b64"]) for vector in reference_vectors["token_invalid"] if vector["token_b64"]
    ]
    batch = apply(test_worker, *(apply_body(base64.b64encode(token).decode()) for token in bad))
    assert len({(answer.status, answer.text) for answer in batch.answers}) == 1
    assert batch.answers[0].json["error"]["code"] == "invalid_token"
    assert batch.messages == []


def test_any_key_opens_the_newest_seals(test_worker: TestWorker) -> None:
    """After a rotation tokens of the old key still open, new ones are the new key's."""
    old = resolved(test_worker)["resolveToken"]
    rotated = {
        "RESOLVE_TOKEN_ENCRYPTION_KEY_n": base64.b64encode(OTHER_KEY).decode(),
        "RESOLVE_TOKEN_SEALING_KEY": "RESOLVE_TOKEN_ENCRYPTION_KEY_n",
    }
    assert apply(test_worker, apply_body(old), **rotated).answers[0].status == 200
    new = base64.b64decode(resolved(test_worker, **rotated)["resolveToken"])
    assert open_token(new, OTHER_KEY, account=ACCOUNT, client="clients/c")


def test_empty_token_is_a_no_op(test_worker: TestWorker) -> None:
    """SDKs that resolved with apply=true send an empty token: 200, whatever the secret, nothing logged."""
    batch = apply(test_worker, {"flags": [], "clientSecret": "nobody's", "resolveToken": ""}, {})
    assert [answer.status for answer in batch.answers] == [200, 200]
    assert batch.messages == []


def test_missing_key_degrades_tokens_alone(test_worker: TestWorker) -> None:
    """Without a key flags resolve, there is just no token; applying says so; health names it."""
    assert resolved(test_worker, RESOLVE_TOKEN_ENCRYPTION_KEY="")["resolvedFlags"]
    batch = apply(test_worker, apply_body("AAAA"), RESOLVE_TOKEN_ENCRYPTION_KEY="")
    assert (batch.answers[0].status, batch.answers[0].json["error"]["code"]) == (503, "tokens_unavailable")
    health = test_worker.run(
        plan(), [{"path": "/v1/health", "method": "GET"}], env=environment(RESOLVE_TOKEN_ENCRYPTION_KEY="x")
    )
    assert health.answers[0].json["token_key"] == "missing"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"clientSecret": "secret-of-d"}, "invalid_token"),
        ({"clientSecret": "nobody's"}, "unknown_client_secret"),
        ({"sendTime": None}, "invalid_request"),
        ({"flags": [{"flag": "flags/none", "applyTime": NOW}]}, "flag_not_in_token"),
        ({"flags": [{"flag": "flags/a"}]}, "invalid_request"),
        ({"sendTime": "2024-01-01"}, "invalid_request"),
        ({"resolveToken": "a b"}, "invalid_request"),
    ],
)
def test_apply_refuses(test_worker: TestWorker, change: dict[str, Any], code: str) -> None:
    """The first thing that is wrong refuses the whole request, and nothing is logged."""
    batch = apply(test_worker, apply_body(resolved(test_worker)["resolveToken"]) | change)
    assert batch.answers[0].json["error"]["code"] == code
    assert batch.messages == []


@pytest.mark.parametrize("offset_s", [-(10**9), 0, 10**9])
def test_apply_times_are_clamped_to_what_is_possible(test_worker: TestWorker, offset_s: int) -> None:
    """Nobody applies before the token was issued or after now, whatever clocks say."""
    before_ms = int(time.time() - 5) * 1000
    token = resolved(test_worker)["resolveToken"]
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 + offset_s))
    body = apply_body(token, flags=[{"flag": "flags/a", "applyTime": moment}], sendTime="2023-11-14T22:13:20Z")
    [message] = apply(test_worker, body).messages
    [applied_at_ms] = message["exposures"]["applied_at_ms"]
    assert before_ms <= applied_at_ms <= time.time() * 1000 + 1
