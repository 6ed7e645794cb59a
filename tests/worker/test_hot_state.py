"""Plans from KV: what is right is served soon, and nothing else ever."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import httpx
import pytest
import shop
from hot_worker import HotWorker, changed_plan, pointer_to

from flagedge.settings import Secret
from local_edge.server import LocalEdge
from sync_job.pointer import KEY, Bundle

CONTEXT = next(iter(shop.visitors(1)))
DAMAGED = changed_plan('"damaged"')
"""A plan of its own for the attacks on parts: what is cached of others stays out of the way."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEdge]:
    with LocalEdge(dir=tmp_path_factory.mktemp("hot") / "edge", grace_s=0.5) as edge:
        yield edge


@pytest.fixture(autouse=True)
def quick_writes(edge: LocalEdge) -> None:
    """A test may write the pointer twice a second."""
    edge.reset()
    edge.set_conditions(kv_write_limit=False)


@pytest.fixture
def fresh(edge: LocalEdge) -> HotWorker:
    """A Worker with an isolate of its own, the shop's state bundled."""
    worker = HotWorker(edge, edge.directory, "fresh")
    worker.deploy()
    return worker


@pytest.fixture(scope="module")
def bundled(edge: LocalEdge) -> HotWorker:
    """A Worker that never met a right pointer."""
    edge.set_conditions(kv_write_limit=False)
    worker = HotWorker(edge, edge.directory, "bundled")
    worker.deploy()
    return worker


@pytest.fixture(scope="module")
def hot(edge: LocalEdge) -> HotWorker:
    """A Worker that serves a plan from KV."""
    edge.set_conditions(kv_write_limit=False)
    worker = HotWorker(edge, edge.directory, "hot")
    worker.deploy()
    plan = changed_plan()
    worker.put_plan(plan)
    worker.point(pointer_to(plan))
    worker.await_state(lambda state: state["source"] == "kv")
    return worker


def _unsigned(worker: HotWorker) -> None:
    worker.put(KEY, json.dumps({"format": 1, "sequence": 2**50}).encode())


def _tampered(worker: HotWorker) -> None:
    text = worker.point(pointer_to(changed_plan()))
    worker.put(KEY, text.replace("plan_format", "plan-format").encode())


def _signed_by_another_key(worker: HotWorker) -> None:
    other = Secret(base64.b64encode(bytes(32)).decode())
    worker.point(pointer_to(changed_plan()), settings=replace(worker.settings, state_mac_key=other))


def _of_another_worker(worker: HotWorker) -> None:
    others = replace(worker.settings, worker=replace(worker.settings.worker, worker_name="another"))
    worker.point(pointer_to(changed_plan()), settings=others)


def _expired(worker: HotWorker) -> None:
    worker.point(pointer_to(changed_plan(), expires_at_s=int(time.time()) - 1))


def _of_another_account(worker: HotWorker) -> None:
    worker.point(pointer_to(changed_plan(), account="another"))


def _of_another_plan_format(worker: HotWorker) -> None:
    worker.point(pointer_to(changed_plan(), plan_format=2))


def _of_another_state(worker: HotWorker) -> None:
    worker.put_plan(DAMAGED)
    worker.point(pointer_to(DAMAGED, etag='"another"'))


def _without_its_parts(worker: HotWorker) -> None:
    worker.delete(f"text/{pointer_to(DAMAGED).text.sha256}/0")
    worker.point(pointer_to(DAMAGED))


def _half_written(worker: HotWorker) -> None:
    text = DAMAGED.text.encode()
    worker.put(f"text/{pointer_to(DAMAGED).text.sha256}/0", text[: len(text) // 2])
    worker.point(pointer_to(DAMAGED))


def _with_a_changed_part(worker: HotWorker) -> None:
    text = DAMAGED.text.replace('"one-page"', '"two-page"').encode()
    worker.put(f"text/{pointer_to(DAMAGED).text.sha256}/0", text)
    worker.point(pointer_to(DAMAGED))


def _with_changed_bitsets(worker: HotWorker) -> None:
    plan = replace(DAMAGED, bits=b"\1" + DAMAGED.bits[1:])
    worker.put_plan(DAMAGED)
    pointer = pointer_to(plan)
    worker.put(f"bits/{pointer.bits.sha256}/0", DAMAGED.bits)
    worker.point(pointer)


def _too_large(worker: HotWorker) -> None:
    pointer = pointer_to(changed_plan())
    worker.point(replace(pointer, bits=replace(pointer.bits, sha256="0" * 64, size_bytes=100_000_000)))


def _never_to_be_served(worker: HotWorker) -> None:
    plan = changed_plan('"unservable"')
    plan = replace(plan, text=json.dumps(json.loads(plan.text) | {"unit_salt": "s" * 10_000}))
    worker.put_plan(plan)
    worker.point(pointer_to(plan))


def _gone(worker: HotWorker) -> None:
    worker.delete(KEY)


def _kv_down(worker: HotWorker) -> None:
    worker.edge.set_faults({"match": r"GET /bindings/kv/.*", "kind": "status", "status": 500, "times": 100})


ATTACKS: dict[Callable[[HotWorker], None], str] = {
    _unsigned: "no signature",
    _tampered: "signature is wrong",
    _signed_by_another_key: "signature is wrong",
    _of_another_worker: "signature is wrong",
    _expired: "expired",
    _of_another_account: "of account another instead of flagedge-demo",
    _of_another_plan_format: "plan format 2 is not 1",
    _of_another_state: 'of state "damaged" instead of "another"',
    _without_its_parts: "chunk 0 of the plan's text is missing",
    _half_written: "bytes",
    _with_a_changed_part: "text is damaged",
    _with_changed_bitsets: "bits is damaged",
    _too_large: "plans would take",
    _never_to_be_served: 'state "unservable" cannot be served: RangeError: prefix of 10001 characters',
    _gone: "there is no pointer",
    _kv_down: "KV could not be read",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.strip("_"))
@pytest.mark.parametrize("name", ["bundled", "hot"])
def test_what_is_odd_changes_nothing(
    request: pytest.FixtureRequest, name: str, attack: Callable[[HotWorker], None]
) -> None:
    """Tampered, foreign, expired, half there or too large: what is served stays, and health says why."""
    worker: HotWorker = request.getfixturevalue(name)
    before, served = worker.resolve(**CONTEXT), worker.state()
    attack(worker)
    state = worker.await_state(lambda state: ATTACKS[attack] in state["problem"])
    assert (state["etag"], state["source"], state["sequence"]) == (served["etag"], served["source"], served["sequence"])
    assert worker.resolve(**CONTEXT) == before
    assert httpx.get(f"{worker.url}/v1/health").json()["status"] == "degraded"


def test_after_all_of_it_a_right_pointer_is_followed(fresh: HotWorker) -> None:
    """A refusal is no end: what is right is served as soon as it is there, and health is well again."""
    before = fresh.resolve(**CONTEXT)
    _half_written(fresh)
    fresh.await_state(lambda state: state["problem"] != "")
    plan = changed_plan()
    fresh.put_plan(plan)
    pointer = pointer_to(plan)
    fresh.point(pointer)
    state = fresh.await_state(lambda state: state["source"] == "kv")
    assert (state["etag"], state["sequence"], state["problem"]) == ('"changed"', pointer.sequence, "")
    assert fresh.resolve(**CONTEXT) != before
    assert httpx.get(f"{fresh.url}/v1/state:etag").json()["etag"] == '"changed"'


def test_an_older_pointer_is_not_followed(fresh: HotWorker) -> None:
    """Neither one below what the isolate has seen, though it was right in its day, nor one below the bundle's."""
    bundle_sequence = fresh.state()["sequence"]
    first, second = changed_plan('"first"'), changed_plan('"second"')
    for plan in (first, second):
        fresh.put_plan(plan)
    older = pointer_to(first)
    newer = replace(pointer_to(second), sequence=older.sequence + 1)
    fresh.point(replace(older, sequence=bundle_sequence - 1))
    time.sleep(0.5)
    assert fresh.state()["source"] == "bundle"
    assert fresh.state()["problem"] == ""
    fresh.point(newer)
    fresh.await_state(lambda state: state["etag"] == '"second"')
    fresh.point(older)
    state = fresh.await_state(lambda state: "is older than" in state["problem"])
    assert state["etag"] == '"second"'


def test_an_expired_plan_gives_way_to_the_bundle(fresh: HotWorker) -> None:
    """A plan from KV is served until its pointer expires, also where KV cannot be read any more."""
    before, bundled = fresh.resolve(**CONTEXT), fresh.state()["etag"]
    plan = changed_plan()
    fresh.put_plan(plan)
    fresh.point(pointer_to(plan, expires_at_s=int(time.time()) + 2))
    fresh.await_state(lambda state: state["source"] == "kv")
    _kv_down(fresh)
    state = fresh.await_state(lambda state: state["source"] == "bundle")
    assert state["etag"] == bundled
    assert fresh.resolve(**CONTEXT) == before


def test_a_bundle_that_cannot_be_read(edge: LocalEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    """A binding that somebody broke takes the news away, and not the answers."""
    worker = HotWorker(edge, edge.directory, "broken")
    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "to_text", lambda _: "{")
        worker.deploy()
    plan = changed_plan()
    worker.put_plan(plan)
    worker.point(pointer_to(plan))
    for _ in range(5):
        assert worker.resolve(**CONTEXT)
        time.sleep(0.1)
    state = worker.state()
    assert (state["source"], "sequence" in state) == ("bundle", False)
    assert "STATE_BUNDLE is not JSON" in (edge.directory / "logs" / f"{worker.worker_name}.log").read_text()


def test_a_plan_in_chunks(fresh: HotWorker) -> None:
    """What is larger than a value of KV is put together again."""
    plan = changed_plan('"large"', bits_bytes=27_000_000)
    fresh.put_plan(plan)
    fresh.point(pointer_to(plan))
    assert fresh.await_state(lambda state: state["source"] == "kv")["etag"] == '"large"'


def test_resolves_never_wait_for_kv(fresh: HotWorker) -> None:
    """With a KV that takes two seconds, resolves take what they took before."""

    def slowest_ms(count: int = 60) -> tuple[float, float]:
        took_ms = []
        with httpx.Client(base_url=fresh.url) as client:
            for _ in range(count):
                body = {"clientSecret": shop.WEB_SECRET, "evaluationContext": CONTEXT, "apply": True}
                began = time.perf_counter()
                client.post("/v1/flags:resolve", json=body).raise_for_status()
                took_ms.append(1000 * (time.perf_counter() - began))
                time.sleep(0.01)
        return median(took_ms), max(took_ms)

    quick_ms, _ = slowest_ms()
    fresh.edge.take_requests()
    fresh.edge.set_conditions(kv_read_ms=2_000)
    plan = changed_plan()
    fresh.put_plan(plan)
    fresh.point(pointer_to(plan))
    slow_ms, most_ms = slowest_ms()
    reads = [call for call in fresh.edge.take_requests() if call["path"].startswith("/bindings/kv/")]
    assert reads, "nobody looked"
    assert slow_ms < 3 * quick_ms + 5
    assert most_ms < 1_000
    assert fresh.await_state(lambda state: state["source"] == "kv")["etag"] == '"changed"'


def test_only_one_request_looks(fresh: HotWorker) -> None:
    """While one request reads KV, others do not; and nobody does before it is due."""
    fresh.edge.set_conditions(kv_read_ms=1_500)
    fresh.state()
    time.sleep(1.7)
    fresh.edge.take_requests()
    for _ in range(10):
        fresh.resolve(**CONTEXT)
    reads = [call for call in fresh.edge.take_requests() if call["path"].startswith("/bindings/kv/")]
    assert len(reads) == 1


def test_kv_as_it_is_elsewhere(fresh: HotWorker) -> None:
    """Another place of the world goes on reading the old pointer for a while, but never an absence of it."""
    fresh.edge.set_conditions(kv_stale_s=1.5)
    fresh.await_state(lambda state: state["checked_age_s"] is not None)
    assert fresh.state()["problem"] == ""
    plan = changed_plan()
    fresh.put_plan(plan)
    began = time.monotonic()
    fresh.point(pointer_to(plan))
    fresh.await_state(lambda state: state["source"] == "kv")
    assert 0.5 < time.monotonic() - began < 5
    assert fresh.state()["problem"] == ""


def test_messages_are_of_one_state(fresh: HotWorker) -> None:
    """Rows of before and after a swap do not share a message, and each message names the state that decided."""
    plan = changed_plan()
    fresh.put_plan(plan)
    bundled = fresh.state()["etag"]
    before = {_resolve_id(fresh) for _ in range(20)}
    fresh.point(pointer_to(plan))
    fresh.await_state(lambda state: state["source"] == "kv")
    after = {_resolve_id(fresh) for _ in range(20)}
    time.sleep(1)
    by_etag: dict[str, set[str]] = {bundled: set(), plan.etag: set()}
    for message in _messages(fresh):
        by_etag[message["state_etag"]] |= (before | after) & set(message["resolves"]["id"])
    assert by_etag == {bundled: before, plan.etag: after}


def _resolve_id(worker: HotWorker) -> str:
    body = {"clientSecret": shop.WEB_SECRET, "evaluationContext": CONTEXT, "apply": True}
    return str(httpx.post(f"{worker.url}/v1/flags:resolve", json=body).raise_for_status().json()["resolveId"])


def _messages(worker: HotWorker) -> list[dict[str, Any]]:
    with worker.open_api() as api:
        queue = api.find_queue(worker.settings.worker.queue_name)
        assert queue
        text = api.pull_messages(queue.queue_id, visibility_timeout_ms=60_000)
    bodies = [json.loads(message["body"]) for message in json.loads(text)["result"]["messages"]]
    return [body for body in bodies if body["format"] == "flagedge/1"]
