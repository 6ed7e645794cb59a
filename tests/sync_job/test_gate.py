"""The gate: a version that does not decide as it should gets no traffic."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
import shop
from sync_command import WORKER, Sync

import sync_job.assemble
from sync_job import gate as gate_module
from sync_job import prepare
from sync_job.compiled import Plan
from sync_job.contexts import sample_contexts
from sync_job.decode import decode_state, digest_secret
from sync_job.official import OfficialResolver


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that never proves itself is given up soon."""
    monkeypatch.setattr(gate_module.Gate.__init__, "__defaults__", (60, 1.5, None, lambda _: None))


@pytest.fixture
def proved(sync: Sync) -> Sync:
    """An operator whose probes reach the Worker, with the shop's state live and proved."""
    assert sync.run()[0] == 0
    sync.operator.environ["PROBE_URL"] = sync.operator.edge.worker_url(WORKER)
    return sync


@contextmanager
def watched(sync: Sync) -> Iterator[list[dict[str, str]]]:
    """Somebody resolves all the time; what they got."""
    seen: list[dict[str, str]] = []
    over = threading.Event()

    def resolve() -> None:
        while not over.is_set():
            seen.append(sync.resolve(visitor_id="v"))

    thread = threading.Thread(target=resolve)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def events(err: str, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def test_a_right_version_is_proved_and_promoted(proved: Sync) -> None:
    """All its answers are those of the official resolver; nobody sees anything but old or new answers."""
    before = proved.resolve(visitor_id="v")
    proved.operator.publish(shop.changed_shop_payload())
    with watched(proved) as seen:
        code, _, err = proved.run()
    after = proved.resolve(visitor_id="v")
    assert code == 0
    assert before != after
    assert all(each in (before, after) for each in seen)
    [proof] = events(err, "version.proved")
    assert proof["compared_count"] == proof["asked_count"] > 50


def swap_variants(compiled: Plan) -> Plan:
    plan = json.loads(compiled.text)
    for rule in itertools.chain.from_iterable(flag["rules"] for flag in plan["flags"]):
        if len(rule.get("assignments", [])) > 1:
            first, second, *others = rule["assignments"]
            rule["assignments"] = [[first[0], second[1]], [second[0], first[1]], *others]
    return replace(compiled, text=json.dumps(plan))


def move_boundaries(compiled: Plan) -> Plan:
    plan = json.loads(compiled.text)
    for rule in itertools.chain.from_iterable(flag["rules"] for flag in plan["flags"]):
        rule["bounds"] = [min(bound + 400, 10_000) if bound else 0 for bound in rule.get("bounds", [])]
    return replace(compiled, text=json.dumps(plan))


def drop_rules(compiled: Plan) -> Plan:
    plan = json.loads(compiled.text)
    for flag in plan["flags"]:
        flag["rules"] = flag["rules"][1:]
    plan["clients"] = [
        client | {"flags": [each if isinstance(each, int) else each[0] for each in client["flags"]]}
        for client in plan["clients"]
    ]
    return replace(compiled, text=json.dumps(plan))


def take_stale_bits(compiled: Plan) -> Plan:
    """As many units are held out as should be, but other ones."""
    return replace(compiled, bits=compiled.bits[64:] + compiled.bits[:64])


@pytest.mark.parametrize("sabotage", [swap_variants, move_boundaries, drop_rules, take_stale_bits])
def test_a_wrong_plan_is_refused(proved: Sync, monkeypatch: pytest.MonkeyPatch, sabotage: Any) -> None:
    """A bug of the compiler never gets traffic; the error names flag, context and both answers."""
    before = proved.resolve(visitor_id="v")
    compile_plan = prepare.compile_plan

    def compile_wrongly(decoded: Any, *, etag: str) -> Any:
        return sabotage(compile_plan(decoded, etag=etag))

    monkeypatch.setattr(prepare, "compile_plan", compile_wrongly)
    proved.operator.publish(shop.changed_shop_payload())
    with watched(proved) as seen:
        code, _, err = proved.run()
    assert code == 1
    assert "by the official resolver" in err.splitlines()[-1]
    assert all(each == before for each in seen)
    monkeypatch.undo()
    code, _, err = proved.run()
    assert code == 0, err
    assert proved.resolve(visitor_id="v") != before


@pytest.mark.parametrize(
    "script",
    [
        "export default { fetch() { throw new Error('broken'); } };",
        "export default { fetch() { return Response.json({ state_etag: 'old', answers: [] }); } };",
        "export default { async fetch() { await scheduler.wait(60_000); return new Response('late'); } };",
    ],
)
def test_a_broken_worker_is_refused(proved: Sync, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A bundle that throws, lies or hangs: what was live stays live."""
    before = proved.resolve(visitor_id="v")
    bundled = sync_job.assemble._bundled
    monkeypatch.setattr(gate_module, "_TIMEOUT", httpx.Timeout(0.3))
    monkeypatch.setattr(
        sync_job.assemble, "_bundled", lambda name: script.encode() if name == "worker.js" else bundled(name)
    )
    with watched(proved) as seen:
        code, _, err = proved.run()
    assert code == 1
    assert "did not prove itself" in err.splitlines()[-1]
    assert all(each == before for each in seen)


def test_a_worker_that_serves_the_old_state_is_refused(proved: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plan is right, but for the state that is live already; the error names both."""
    before = proved.resolve(visitor_id="v")
    stale = prepare.compile_plan(decode_state(shop.shop_payload()), etag='"old"')
    compile_plan = prepare.compile_plan
    monkeypatch.setattr(
        prepare, "compile_plan", lambda decoded, *, etag: replace(compile_plan(decoded, etag=etag), text=stale.text)
    )
    proved.operator.publish(shop.changed_shop_payload())
    with watched(proved) as seen:
        code, _, err = proved.run()
    assert code == 1
    assert 'it serves state "old" instead of "' in err.splitlines()[-1]
    assert all(each == before for each in seen)


FAILS_IN_PUBLIC = """
const failing = {
  fetch(request, env, context) {
    const isProbed = request.headers.has("cloudflare-workers-version-overrides");
    const isProbe = new URL(request.url).pathname === "/v1/probe";
    return isProbe && !isProbed ? new Response("", { status: 500 }) : REAL.fetch(request, env, context);
  },
};
"""


def test_a_version_that_fails_once_it_is_live_is_taken_back(proved: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """It proved itself at 0 % and got everything; the check after that returns to what was live, by itself."""
    before = proved.resolve(visitor_id="v")
    scripts = proved.operator.edge.edge.scripts
    live_id = scripts.live(WORKER).version_id
    bundled = sync_job.assemble._bundled
    real = bundled("worker.js").decode()
    name = re.search(r"([\w$]+) as default", real)
    assert name
    broken = real.replace(f"{name[1]} as default", "failing as default") + FAILS_IN_PUBLIC.replace("REAL", name[1])
    monkeypatch.setattr(
        sync_job.assemble, "_bundled", lambda name: broken.encode() if name == "worker.js" else bundled(name)
    )
    with watched(proved) as seen:
        code, _, err = proved.run()
    assert code == 1
    assert "the probe was answered with 500" in err.splitlines()[-1]
    assert all(each == before for each in seen)
    served = [{share.version_id: share.percentage for share in each.shares} for each in scripts.deployments(WORKER)]
    new_id = scripts.latest(WORKER).version_id
    assert served[:3] == [{live_id: 100}, {new_id: 100}, {live_id: 100, new_id: 0}]
    monkeypatch.undo()
    proved.operator.environ["PROBE_URL"] = proved.operator.edge.worker_url(WORKER)
    assert proved.run()[0] == 0


def test_probes_leave_no_trace(proved: Sync) -> None:
    """Without a right signature there is nothing at the path; with one nothing is logged."""
    url = f"{proved.operator.edge.worker_url(WORKER)}/v1/probe"
    assert httpx.post(url, content="{}").status_code == 404
    assert httpx.post(url, content="{}", headers={"x-flagedge-signature": f"t=1,v1={'0' * 64}"}).status_code == 404
    _, out, _ = proved.command("status", "--json")
    assert json.loads(out)["backlog_count"] == 1  # the deployment's record


def test_without_a_way_to_the_worker_it_says_so(sync: Sync) -> None:
    """An unproved deployment is told apart from a proved one."""
    code, _, err = sync.run()
    assert code == 0
    [event] = events(err, "version.unproved")
    assert "PROBE_URL" in event["reason"]


def test_contexts_tell_the_rules_apart() -> None:
    """Every rule of the shop is decided for by some context and against by another."""
    decoded = decode_state(shop.shop_payload())
    official = OfficialResolver(decoded)
    decided: dict[str, set[str]] = {}
    secret = digest_secret(shop.WEB_SECRET)
    for context in sample_contexts(decoded.resolver_state, 300, seed=1):
        for flag, answer in official.resolve(secret, context).items():
            decided.setdefault(flag, set()).add(answer.get("variant", answer["reason"]))
    assert len(decided) == 6
    assert all(len(answers) > 1 for answers in decided.values()), decided
