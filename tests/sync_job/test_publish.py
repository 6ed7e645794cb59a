"""States that go to KV: what a run asks for, what it proves, what it leaves to a deployment, and what dies half way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shop
from hot_worker import MAC_KEY, HotWorker
from sync_scenarios import CONTEXTS, ETAGS, STATES
from sync_site import prove_quickly
from watch import Watch, right_answers

from flagedge.errors import FlagedgeError, SettingsError
from local_edge.server import LocalEdge
from sync_job import fetch, prepare, publish
from sync_job.blast import BlastRadiusError
from sync_job.gate import GateError
from sync_job.job import RunOptions
from sync_job.overrides import Override, OverrideChange
from sync_job.pointer import KEY
from sync_job.settings import read_sync_settings
from sync_job.status import format_status, read_status
from sync_job.traffic import OvertakenError

NEWEST = shop.shop_payload(checkout_split=(10, 10, 80))
RIGHT = {name: right_answers(state, CONTEXTS) for name, state in STATES.items()}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEdge]:
    with LocalEdge(dir=tmp_path_factory.mktemp("publish") / "edge", grace_s=0.5) as edge:
        yield edge


@pytest.fixture
def worker(edge: LocalEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HotWorker:
    """A Worker with the shop's old state bundled; what is published has to prove itself."""
    prove_quickly(monkeypatch)
    monkeypatch.setattr(publish, "PROPAGATION_S", 3.0)
    edge.reset()
    edge.set_conditions(kv_write_limit=False)
    worker = HotWorker(edge, tmp_path)
    worker.deploy()
    worker.is_proved = True
    return worker


def calls_of(worker: HotWorker) -> list[str]:
    """`METHOD last-path-segment` of what was asked of API and CDN since the last time."""
    made = [call for call in worker.edge.take_requests() if not call["path"].startswith("/bindings/")]
    return [f"{call['method']} {call['path'].rsplit('/', 1)[-1][:16]}" for call in made]


def deployments(worker: HotWorker) -> int:
    return len(worker.edge.edge.scripts.deployments(worker.worker_name))


def publish_new(worker: HotWorker) -> None:
    """The new state, until it is served."""
    worker.edge.publish_state(shop.WEB_SECRET, STATES["new"])
    assert worker.run().outcome == "published"
    worker.await_state(lambda state: state["etag"] == ETAGS["new"])


def records(worker: HotWorker) -> list[tuple[str, str, str]]:
    """Of each record in the queue, oldest first: outcome, state before, state; all of them, copies once."""
    with worker.open_api() as api:
        queue = api.find_queue(worker.settings.worker.queue_name)
        assert queue
        found: dict[str, tuple[str, str, str]] = {}
        while batch := json.loads(api.pull_messages(queue.queue_id, visibility_timeout_ms=60_000))["result"][
            "messages"
        ]:
            api.ack_messages(queue.queue_id, acks=[message["lease_id"] for message in batch])
            for body in (json.loads(message["body"]) for message in batch):
                if "deployment" in body:
                    deployment = body["deployment"]
                    facts = (deployment["outcome"], deployment["previous_state_etag"], body["state_etag"])
                    found[body["isolate"]] = facts
    return list(found.values())


def test_a_new_state_is_published(worker: HotWorker) -> None:
    """No version and no deployment: the plan is proved from KV, pointed at, and answers change; then all is quiet."""
    records(worker)
    count = deployments(worker)
    worker.edge.publish_state(shop.WEB_SECRET, STATES["new"])
    with Watch(lambda: worker.url, CONTEXTS, RIGHT) as watch:
        worker.edge.take_requests()
        result = worker.run()
        calls = calls_of(worker)
        worker.await_state(lambda state: state["etag"] == ETAGS["new"])
    assert (watch.wrong, watch.seen) == ([], ["old", "new"])
    assert (result.outcome, result.etag, result.previous_etag) == ("published", ETAGS["new"], ETAGS["old"])
    assert [call for call in calls if not call.startswith("GET")] == [
        "POST get",  # the pointer
        "PUT 0",  # the plan's text; its bitsets are the bundled ones
        "POST get",
        "PATCH script-settings",
        "PUT pointer",
        "POST messages",  # the record
        "PATCH script-settings",
    ]
    assert deployments(worker) == count
    assert records(worker) == [("deployed", ETAGS["old"], ETAGS["new"])]


def test_an_unchanged_run_is_two_requests(worker: HotWorker) -> None:
    """The state that is published is known from the Worker's tags."""
    publish_new(worker)
    worker.edge.take_requests()
    result = worker.run()
    assert (result.outcome, result.etag) == ("unchanged", ETAGS["new"])
    assert [call.split(" ")[1][:8] for call in calls_of(worker)] == ["accounts", "settings", *_state_names()]


def _state_names() -> list[str]:
    from local_edge.cdn import state_name  # noqa: PLC0415

    return [state_name(shop.WEB_SECRET, encrypted=False)[:8]]


def test_states_one_after_the_other(worker: HotWorker) -> None:
    """Each has a higher sequence than the one before; the records tell all of them."""
    records(worker)
    sequences = [worker.state()["sequence"]]
    for state in (STATES["new"], NEWEST, STATES["old"]):
        worker.edge.publish_state(shop.WEB_SECRET, state)
        result = worker.run()
        assert result.outcome == "published"
        served = worker.await_state(lambda state, etag=result.etag: bool(state["etag"] == etag))
        sequences.append(served["sequence"])
    assert sequences == sorted(set(sequences))
    told = records(worker)
    assert [before for _, before, _ in told[1:]] == [etag for _, _, etag in told[:-1]]
    assert (told[0][1], told[-1][2]) == (ETAGS["old"], ETAGS["old"])


def test_a_wrong_plan_is_never_pointed_at(worker: HotWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official resolver judges the plan in KV as it would judge a version's."""
    monkeypatch.undo()
    monkeypatch.setattr(publish, "PROPAGATION_S", 3.0)
    compile_plan = prepare.compile_plan

    def compile_wrongly(decoded: Any, *, etag: str) -> Any:
        plan = json.loads((compiled := compile_plan(decoded, etag=etag)).text)
        for flag in plan["flags"]:
            flag["rules"] = flag["rules"][:0]
        plan["clients"] = [
            client | {"flags": [each if isinstance(each, int) else each[0] for each in client["flags"]]}
            for client in plan["clients"]
        ]
        return replace(compiled, text=json.dumps(plan))

    monkeypatch.setattr(prepare, "compile_plan", compile_wrongly)
    worker.edge.publish_state(shop.WEB_SECRET, STATES["new"])
    worker.edge.take_requests()
    with Watch(lambda: worker.url, CONTEXTS, {"old": RIGHT["old"]}) as watch, pytest.raises(GateError) as refusal:
        worker.run()
    assert "by the official resolver" in refusal.value.message
    assert "PUT pointer" not in calls_of(worker)
    assert watch.wrong == []


def test_a_plan_that_is_not_in_kv_is_never_pointed_at(worker: HotWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the API says: the Worker has to have read it."""
    monkeypatch.setattr(publish, "split_plan", lambda *_, **__: [])
    worker.edge.publish_state(shop.WEB_SECRET, shop.shop_payload(checkout_split=(33, 33, 34)))
    with pytest.raises(GateError) as refusal:
        worker.run()
    assert "chunk 0 of the plan's text is missing" in refusal.value.message
    assert worker.state()["source"] == "bundle"


def test_what_is_more_than_a_state_is_deployed(worker: HotWorker) -> None:
    """A setting, a rotated key, an override, a rollback, a forced run: each takes the published state along."""
    publish_new(worker)
    count = deployments(worker)
    assert worker.run(TOKEN_TTL_SECONDS="3600").outcome == "deployed"
    assert worker.run(RunOptions(rotate_key=True), TOKEN_TTL_SECONDS="3600").outcome == "deployed"
    assert worker.state()["source"] == "bundle"
    assert worker.state()["etag"] == ETAGS["new"]
    override = Override("live-chat", "off", "broken", int(time.time()))
    worker.edge.publish_state(shop.WEB_SECRET, NEWEST)
    done = worker.run(RunOptions(overrides=OverrideChange(put=override)), TOKEN_TTL_SECONDS="3600")
    assert (done.outcome, done.etag) == ("deployed", ETAGS["new"])
    assert worker.run(TOKEN_TTL_SECONDS="3600").outcome == "published"
    assert deployments(worker) > count


def test_an_override_outlives_a_publication(worker: HotWorker) -> None:
    """What is published is the state with its overrides, and they end as any other."""
    override = Override("live-chat", "off", "broken", int(time.time()))
    worker.run(RunOptions(overrides=OverrideChange(put=override)))
    publish_new(worker)
    assert {worker.resolve(**context)["flags/live-chat"] for context in CONTEXTS} == {"flags/live-chat/variants/off"}
    ended = worker.run(RunOptions(overrides=OverrideChange(clear=None)))
    assert (ended.outcome, ended.etag) == ("deployed", ETAGS["new"])
    assert {worker.resolve(**context)["flags/live-chat"] for context in CONTEXTS} != {"flags/live-chat/variants/off"}


def test_a_rollback_of_what_was_published(worker: HotWorker) -> None:
    """It deploys the state before at once, over the pointer; later runs leave it, until there is a newer state."""
    publish_new(worker)
    back = worker.run(RunOptions(rollback_to=""))
    assert (back.outcome, back.etag, back.rolled_back_from) == ("deployed", ETAGS["old"], ETAGS["new"])
    time.sleep(0.5)
    assert worker.state()["etag"] == ETAGS["old"]
    assert worker.run().outcome == "unchanged"
    worker.edge.publish_state(shop.WEB_SECRET, NEWEST)
    done = worker.run()
    assert (done.outcome, done.rolled_back_from) == ("published", "")


def test_a_version_catches_up(worker: HotWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time after a publication a run deploys a version that has it, also while the CDN is away; then none does."""
    publish_new(worker)
    assert worker.run().outcome == "unchanged"
    monkeypatch.setattr(publish, "BEHIND_MAX_S", 0)
    monkeypatch.setattr(fetch, "_RETRY_WAITS_S", (0, 0))
    worker.edge.set_faults({"match": "GET /cdn/.*", "kind": "status", "status": 500, "times": 3})
    done = worker.run()
    assert (done.outcome, done.etag, done.previous_etag) == ("deployed", ETAGS["new"], ETAGS["new"])
    worker.await_state(lambda state: state["source"] == "bundle" and state["etag"] == ETAGS["new"])
    assert worker.run().outcome == "unchanged"


def test_a_state_that_is_too_large_is_deployed(worker: HotWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An isolate has to hold the bundled plan, the served one and the next."""
    monkeypatch.setattr(publish, "PLANS_MAX_BYTES", 50_000)
    worker.edge.publish_state(shop.WEB_SECRET, STATES["new"])
    assert worker.run().outcome == "deployed"
    worker.await_state(lambda state: state["etag"] == ETAGS["new"])


def test_the_limit_of_the_blast_radius_holds(worker: HotWorker) -> None:
    """A state that changes too much is neither deployed nor published until somebody approves."""
    worker.edge.publish_state(shop.WEB_SECRET, STATES["new"])
    worker.run(MAX_BLAST_RADIUS="100%")
    worker.edge.publish_state(shop.WEB_SECRET, STATES["old"])
    with pytest.raises(BlastRadiusError):
        worker.run(MAX_BLAST_RADIUS="1%")
    approved = worker.run(RunOptions(approve=ETAGS["old"]), MAX_BLAST_RADIUS="1%")
    assert (approved.outcome, approved.etag) == ("published", ETAGS["old"])


def test_somebody_else_published_meanwhile(worker: HotWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pointer is only stored over the one that the run began with."""
    worker.edge.publish_state(shop.WEB_SECRET, STATES["new"])
    split_plan = publish.split_plan

    def be_overtaken(*plan: Any, **options: Any) -> Any:
        worker.put(KEY, b"another")
        return split_plan(*plan, **options)

    monkeypatch.setattr(publish, "split_plan", be_overtaken)
    with pytest.raises(OvertakenError):
        worker.run()
    monkeypatch.undo()
    worker.is_proved = False
    assert worker.run().outcome == "published"


def test_a_lost_pointer_is_made_good(worker: HotWorker) -> None:
    """Where the key was deleted, the next run that looks closer brings the state back; meanwhile `status` tells."""
    publish_new(worker)
    worker.delete(KEY)
    worker.await_state(lambda state: "no pointer" in state["problem"])
    worker.edge.publish_state(shop.WEB_SECRET, NEWEST)
    done = worker.run()
    assert done.outcome == "deployed"
    worker.await_state(lambda state: state["etag"] == done.etag and not state["problem"])


def test_no_longer_by_kv(worker: HotWorker) -> None:
    """PUBLISH=deploy deploys the published state, and the Worker does not look into KV any more."""
    publish_new(worker)
    done = worker.run(PUBLISH="deploy")
    assert (done.outcome, done.etag) == ("deployed", ETAGS["new"])
    assert worker.run(PUBLISH="deploy").outcome == "unchanged"
    worker.edge.take_requests()
    worker.state()
    time.sleep(0.3)
    worker.state()
    assert not [call for call in worker.edge.take_requests() if call["path"].startswith("/bindings/kv/")]
    assert worker.run().outcome == "deployed"
    worker.edge.publish_state(shop.WEB_SECRET, NEWEST)
    assert worker.run().outcome == "published"


def test_another_key(worker: HotWorker) -> None:
    """A changed STATE_MAC_KEY is deployed, and what the one before signed is not followed any more."""
    publish_new(worker)
    changed = MAC_KEY[::-1].removeprefix("=") + "="
    done = worker.run(STATE_MAC_KEY=changed)
    assert (done.outcome, done.etag) == ("deployed", ETAGS["new"])
    worker.edge.publish_state(shop.WEB_SECRET, NEWEST)
    assert worker.run(STATE_MAC_KEY=changed).outcome == "published"


def test_the_key_is_bound_and_nowhere_else(worker: HotWorker) -> None:
    """The Worker has a key of its own, derived; the operator's is in no binding, no pointer and no digest's text."""
    publish_new(worker)
    version = worker.edge.edge.scripts.live(worker.worker_name)
    assert MAC_KEY not in json.dumps([dict(binding) for binding in version.bindings])
    [bound] = [binding for binding in version.bindings if binding["name"] == "STATE_MAC_KEY"]
    assert bound["type"] == "secret_text"
    with worker.open_api() as api:
        text = api.get_kv_text(worker.namespace_id, KEY) or ""
    assert MAC_KEY not in text
    assert bound["text"] not in text


def test_settings() -> None:
    """PUBLISH=kv wants a key, and says how to make one."""
    known = {"CLOUDFLARE_API_TOKEN": "t", "CONFIDENCE_CLIENT_SECRET": "s", "PUBLISH": "kv"}
    with pytest.raises(SettingsError) as error:
        read_sync_settings(known)
    assert "openssl rand -base64 32" in str(error.value)
    with pytest.raises(SettingsError) as error:
        read_sync_settings(known | {"STATE_MAC_KEY": "short"})
    assert "short" not in str(error.value)
    assert read_sync_settings(known | {"STATE_MAC_KEY": MAC_KEY}).worker.publishes


def test_status(worker: HotWorker) -> None:
    """What is live stands in the API and in the Worker's own words."""
    publish_new(worker)
    with worker.open_api() as api:
        status = read_status(worker.settings, api)
    assert (status.etag, status.source) == (ETAGS["new"], "kv")
    assert status.edge
    assert (status.edge["etag"], status.edge["source"]) == (ETAGS["new"], "kv")
    text = format_status(status)
    assert f"the edge has  state {ETAGS['new']} from kv" in text
    assert "published " in text
    assert MAC_KEY not in text


@pytest.mark.parametrize("kind", ["reset", "lost"], ids=["not done", "done and not answered"])
def test_a_publication_that_is_cut_off_anywhere(worker: HotWorker, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """At whatever call it ends: one more run brings the state live and records it; all see but old and new answers."""
    monkeypatch.setattr(fetch, "_RETRY_WAITS_S", (0,))
    worker.edge.take_requests()
    publish_new(worker)
    calls = calls_of(worker)
    live, coming = "new", "old"
    for nth, call in enumerate(calls, start=1):
        if kind == "lost" and call.startswith("GET"):
            continue  # A read that is not answered is one that is not done.
        records(worker)
        worker.edge.publish_state(shop.WEB_SECRET, STATES[coming])
        with Watch(lambda: worker.url, CONTEXTS, {live: RIGHT[live], coming: RIGHT[coming]}) as watch:
            strike = {"match": r"[A-Z]+ /(client|cdn)/", "kind": kind, "nth": nth, "times": 2}
            worker.edge.set_faults(strike)
            with suppress(FlagedgeError):
                worker.run()
            worker.edge.reset()
            worker.edge.set_conditions(kv_write_limit=False)
            worker.run()
            worker.await_state(lambda state, etag=ETAGS[coming]: bool(state["etag"] == etag))
        assert (watch.wrong, watch.seen) == ([], [live, coming]), nth
        assert worker.run().outcome == "unchanged", nth
        assert records(worker)[-1:] == [("deployed", ETAGS[live], ETAGS[coming])], nth
        live, coming = coming, live
