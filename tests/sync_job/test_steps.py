"""New code of the Worker gets its traffic in steps, from run to run; a new state never waits for that."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import shop
from sync_command import WORKER, Sync
from sync_scenarios import CONTEXTS, STATES
from watch import Watch, right_answers

import sync_job.assemble
from sync_job import gate as gate_module
from sync_job import one_pass, steps
from sync_job.settings import read_sync_settings

OLD, NEW = "0.0.8", "0.0.9"
Upgrade = Callable[[str], None]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that does not prove itself is given up soon."""
    monkeypatch.setattr(gate_module.Gate.__init__, "__defaults__", (30, 1.0, None, lambda _: None))


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Upgrade:
    """Install another version of flagedge."""

    def install(version: str) -> None:
        for module in (sync_job.assemble, one_pass, steps):
            monkeypatch.setattr(module, "__version__", version)

    return install


@pytest.fixture
def upgraded(sync: Sync, upgrade: Upgrade) -> Sync:
    """An operator with the old version live, who installed the new one, to go live in steps."""
    upgrade(OLD)
    sync.operator.environ["FORCE_APPLY"] = "false"  # for the watch, which wants tokens
    assert sync.run()[0] == 0
    sync.operator.environ |= {"DEPLOY_STEPS": "5,25,100", "PROBE_URL": sync.operator.edge.worker_url(WORKER)}
    upgrade(NEW)
    return sync


def run(sync: Sync, *arguments: str, **settings: str) -> dict[str, Any]:
    code, out, err = sync.run("--json", *arguments, **settings)
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def shares(sync: Sync) -> dict[str, float]:
    """Of the traffic, by version of flagedge."""
    scripts = sync.operator.edge.edge.scripts
    versions = {version.version_id: version for version in scripts.versions(WORKER)}
    found = {}
    for share in scripts.active(WORKER).shares:
        texts = {binding["name"]: binding.get("text") for binding in versions[share.version_id].bindings}
        found[texts["DEPLOYER_VERSION"]] = share.percentage
    return found


def tags(sync: Sync) -> list[str]:
    return list(sync.operator.edge.edge.scripts.get(WORKER).settings["tags"])


def test_code_goes_in_steps(upgraded: Sync) -> None:
    """Each run gives it more, and the one after the last finds nothing to do, by two requests."""
    right = {"old": right_answers(STATES["old"], CONTEXTS)}
    with Watch(lambda: upgraded.operator.edge.worker_url(WORKER), CONTEXTS, right) as watch:
        result = run(upgraded)
        assert (result["outcome"], result["share"], shares(upgraded)) == ("deployed", 5, {OLD: 95, NEW: 5})
        result = run(upgraded)
        assert (result["outcome"], result["share"], shares(upgraded)) == ("stepped", 25, {OLD: 75, NEW: 25})
        told = upgraded.command("status")[1]
        assert f"(75 %, by flagedge {OLD})" in told
        assert f"(25 %, by flagedge {NEW})" in told
        assert run(upgraded)["share"] == 100
        assert shares(upgraded) == {NEW: 100}
    assert not watch.wrong
    account_id = upgraded.account_id()
    upgraded.requests()
    assert run(upgraded, CLOUDFLARE_ACCOUNT_ID=account_id)["outcome"] == "unchanged"
    assert len(upgraded.requests()) == 2
    assert tags(upgraded) == []


def test_a_new_state_takes_the_code_along(upgraded: Sync) -> None:
    """Nobody sees the old state after the new one; so the steps end."""
    right = {name: right_answers(state, CONTEXTS) for name, state in STATES.items()}
    run(upgraded)
    with Watch(lambda: upgraded.operator.edge.worker_url(WORKER), CONTEXTS, right) as watch:
        upgraded.operator.publish(STATES["new"])
        result = run(upgraded)
    assert (result["outcome"], result["share"], shares(upgraded)) == ("deployed", 100, {NEW: 100})
    assert (watch.wrong, watch.seen) == ([], ["old", "new"])
    assert run(upgraded)["outcome"] == "unchanged"


def test_state_and_code_that_come_together_go_at_once(upgraded: Sync) -> None:
    """And it is said why there are no steps."""
    upgraded.operator.publish(shop.changed_shop_payload())
    code, _, err = upgraded.run()
    assert code == 0
    assert '"reason": "the state is another"' in next(line for line in err.splitlines() if "steps.skipped" in line)
    assert shares(upgraded) == {NEW: 100}


def test_a_new_key_takes_the_code_along(upgraded: Sync) -> None:
    """Half of the traffic could not open what the other half seals."""
    assert upgraded.command("keys", "rotate")[0] == 0
    assert shares(upgraded) == {NEW: 100}


def test_code_that_fails_later_goes_back(upgraded: Sync) -> None:
    """Before it gets more it is asked again; if it fails, the version before is live, and the steps begin anew."""
    run(upgraded)
    url = upgraded.operator.environ["PROBE_URL"]
    right = {"old": right_answers(STATES["old"], CONTEXTS)}
    with Watch(lambda: upgraded.operator.edge.worker_url(WORKER), CONTEXTS, right) as watch:
        code, _, err = upgraded.run(PROBE_URL=f"{url}/nowhere")
    assert (code, "did not prove itself" in err, watch.wrong) == (1, True, [])
    assert shares(upgraded) == {OLD: 100}
    result = run(upgraded)
    assert (result["outcome"], result["share"], shares(upgraded)) == ("deployed", 5, {OLD: 95, NEW: 5})


def test_code_that_throws_gets_nothing(upgraded: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is proved at 0 % as any version; what was live stays live."""
    broken = b"export default { fetch() { throw new Error('broken'); } };"
    bundled = sync_job.assemble._bundled
    monkeypatch.setattr(sync_job.assemble, "_bundled", lambda name: broken if name == "worker.js" else bundled(name))
    assert upgraded.run()[0] == 1
    assert shares(upgraded) == {OLD: 100}


def test_somebody_elses_deployment_ends_the_steps(upgraded: Sync) -> None:
    """An operator who went back by hand is not overruled."""
    run(upgraded)
    edge = upgraded.operator.edge
    [old_id] = [each.version_id for each in edge.edge.scripts.active(WORKER).shares if each.percentage == 95]
    url = f"{edge.api_url}/accounts/{edge.edge.account_id}/workers/scripts/{WORKER}/deployments"
    body = {"strategy": "percentage", "versions": [{"version_id": old_id, "percentage": 100}]}
    httpx.post(url, json=body, headers={"authorization": "Bearer t"}, params={"force": "true"}).raise_for_status()
    assert "steps.ended" in upgraded.run()[2]
    assert shares(upgraded) == {OLD: 100}
    assert run(upgraded)["outcome"] == "unchanged"


@pytest.mark.parametrize("nth", [1, 2])
def test_a_step_whose_last_call_fails_is_made_good(upgraded: Sync, nth: int) -> None:
    """The first run dies before its mark is off, or the last one; the next ones go on."""
    if nth == 2:
        run(upgraded)
        run(upgraded)
    upgraded.operator.edge.set_faults(
        {"match": "PATCH .*/script-settings", "nth": 3 - nth, "times": 9, "kind": "status", "status": 403}
    )
    assert upgraded.run()[0] == 1
    upgraded.operator.edge.reset()
    for _ in range(4):
        result = run(upgraded)
    assert (result["outcome"], shares(upgraded), tags(upgraded)) == ("unchanged", {NEW: 100}, [])


def test_another_setting_begins_the_steps_anew(upgraded: Sync) -> None:
    """It does not bring code to everybody that has proved itself to a few; an operator who forces it does."""
    run(upgraded)
    upgraded.operator.environ["CONFIDENCE_RESOLVER_ALLOWED_ORIGIN"] = "https://shop.example"
    assert (run(upgraded)["share"], shares(upgraded)) == (5, {OLD: 95, NEW: 5})
    assert (run(upgraded)["share"], shares(upgraded)) == (25, {OLD: 75, NEW: 25})
    assert (run(upgraded, "--force")["share"], shares(upgraded)) == (100, {NEW: 100})
    assert run(upgraded)["outcome"] == "unchanged"


def test_without_steps_code_goes_at_once(upgraded: Sync) -> None:
    """That is the default."""
    assert run(upgraded, DEPLOY_STEPS="")["share"] == 100
    assert shares(upgraded) == {NEW: 100}


@pytest.mark.parametrize("text", ["5", "0,100", "25,5,100", "5,5,100", "5,101", "half", "5,,100"])
def test_steps_that_are_none(text: str) -> None:
    """They ascend, and end at everybody."""
    environ = {"CLOUDFLARE_API_TOKEN": "t", "CONFIDENCE_CLIENT_SECRET": "s", "DEPLOY_STEPS": text}
    with pytest.raises(Exception, match="DEPLOY_STEPS must be ascending percentages up to 100"):
        read_sync_settings(environ)
