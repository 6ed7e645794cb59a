"""Deployments of a script: who gets its traffic, and how a request says which version it means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from edge_account import VERSION, WHICH, EdgeAccount, new_name

from local_edge.server import LocalEdge

OVERRIDES = "cloudflare-workers-version-overrides"
VERSION_KEY = "cloudflare-workers-version-key"


def ask(url: str, count: int, **headers: str) -> Counter[str]:
    """How many of `count` requests each version answered."""
    with httpx.Client() as client:
        return Counter(client.get(url, headers=headers).text for _ in range(count))


def secret(text: str) -> dict[str, str]:
    return {"type": "secret_text", "name": "KEY", "text": text}


def test_traffic_is_split(account: EdgeAccount) -> None:
    """Requests meet versions by the percentages of the active deployment, and 0 % is none."""
    script = new_name("split")
    url, (first, second) = account.start_versions(script, 2)
    account.deploy(script, {second: 25, first: 75})
    met = ask(url, 400)
    assert met.keys() == {first, second}
    assert 50 < met[second] < 150  # five standard deviations
    account.deploy(script, {second: 0, first: 100})
    assert ask(url, 50) == {first: 50}


def test_version_override(account: EdgeAccount) -> None:
    """The override header reaches a version of the deployment, one with 0 % too."""
    script = new_name("override")
    url, (live, candidate) = account.start_versions(script, 2)
    account.deploy(script, {live: 100, candidate: 0})
    assert ask(url, 20) == {live: 20}
    assert ask(url, 20, **{OVERRIDES: f'{script}="{candidate}"'}) == {candidate: 20}
    assert ask(url, 1, **{OVERRIDES: f'other="{live}", {script}="{candidate}"'}) == {candidate: 1}


def test_version_override_that_is_ignored(account: EdgeAccount) -> None:
    """A header for a version outside the deployment, for another script, or that is no dictionary, is ignored."""
    script = new_name("ignored")
    url, (live, candidate, outside) = account.start_versions(script, 3)
    account.deploy(script, {live: 100, candidate: 0})
    for value in (
        f'{script}="{outside}"',
        f'other="{candidate}"',
        f"{script}={candidate}",
        f'{script}="{candidate}",',
        f'{script}="{candidate}" x',
        candidate,
    ):
        assert ask(url, 1, **{OVERRIDES: value}) == {live: 1}, value


def test_version_key(account: EdgeAccount) -> None:
    """A key always meets the same version, and one that met the new version stays there while its share grows."""
    script = new_name("sticky")
    url, (old, new) = account.start_versions(script, 2)
    account.deploy(script, {new: 30, old: 70})

    def assign() -> dict[str, str]:
        with httpx.Client() as client:
            return {key: client.get(url, headers={VERSION_KEY: key}).text for key in map(str, range(60))}

    first = assign()
    assert set(first.values()) == {old, new}
    assert assign() == first
    account.deploy(script, {old: 40, new: 60})
    second = assign()
    assert {key for key in first if first[key] == new} < {key for key in second if second[key] == new}


def test_version_override_through_a_service_binding(account: EdgeAccount) -> None:
    """A Worker that hands the header on reaches the version of the Worker that it binds."""
    inner, outer = new_name("inner"), new_name("outer")
    _, (live, candidate) = account.start_versions(inner, 2)
    account.deploy(inner, {live: 100, candidate: 0})
    code = "export default { fetch(request, env) { return env.INNER.fetch(request) } };"
    url = account.publish(outer, code, bindings=[{"type": "service", "name": "INNER", "service": inner}])
    assert ask(url, 1) == {live: 1}
    assert ask(url, 1, **{OVERRIDES: f'{inner}="{candidate}"'}) == {candidate: 1}


def test_list_of_deployments(account: EdgeAccount) -> None:
    """The active deployment is the first; each has its versions, message and what triggered it."""
    script = new_name("deployments")
    _, (first, second) = account.start_versions(script, 2)
    message = {"workers/message": "canary"}
    created = account.deploy(script, {second: 10, first: 90}, annotations=message).result
    assert (created["strategy"], created["source"]) == ("percentage", "api")
    assert created["annotations"] == {**message, "workers/triggered_by": "deployment"}
    path = f"/workers/scripts/{script}/deployments"
    listed = account.call("GET", path).result["deployments"]
    assert listed[0] == created == account.call("GET", f"{path}/{created['id']}").result
    assert [len(deployment["versions"]) for deployment in listed] == [2, 1]


def test_delete_deployment(account: EdgeAccount) -> None:
    """An old deployment can be deleted, the active one is a 10338, an unknown one a 10336."""
    script = new_name("delete")
    account.upload(script)
    before = account.active(script)["id"]
    path = f"/workers/scripts/{script}/deployments"
    assert account.call("DELETE", f"{path}/{before}").refusal == (400, 10338)
    account.upload(script)
    assert account.call("DELETE", f"{path}/{before}").result is None
    assert account.call("GET", f"{path}/{before}").refusal == (404, 10336)
    assert account.call("GET", f"/workers/scripts/{new_name('none')}/deployments").refusal == (404, 10007)


@pytest.mark.parametrize(
    "percentages",
    [[100, 1], [50, 40], [-1, 101], [50, 25, 25], [], ["100"], [99.999, 0.001], [True, 99]],
    ids=str,
)
def test_percentages(account: EdgeAccount, percentages: list[Any]) -> None:
    """One or two versions whose percentages add up to 100; anything else is a 10210."""
    script = new_name("percent")
    _, ids = account.start_versions(script, 3)
    shares = dict(zip(ids, percentages, strict=False))
    assert account.deploy(script, shares).refusal == (400, 10210)


@pytest.mark.parametrize("change", [{"strategy": "canary"}, {"versions": [{"version_id": "x"}]}, {"versions": {}}])
def test_malformed_deployments(account: EdgeAccount, change: Mapping[str, Any]) -> None:
    """Another strategy, or versions of another shape, are a 10210."""
    script = new_name("malformed")
    _, (only,) = account.start_versions(script, 1)
    assert account.deploy(script, {only: 100}, **change).refusal == (400, 10210)


def test_fractions(account: EdgeAccount) -> None:
    """Percentages may have two decimals."""
    script = new_name("fractions")
    _, (first, second) = account.start_versions(script, 2)
    assert account.deploy(script, {first: 99.9, second: 0.1}).result


def test_the_same_version_twice(account: EdgeAccount) -> None:
    """A version is named once."""
    script = new_name("twice")
    _, (only,) = account.start_versions(script, 1)
    versions = [{"version_id": only, "percentage": 50}] * 2
    assert account.deploy(script, {}, versions=versions).refusal == (400, 10210)


def test_rollback(account: EdgeAccount) -> None:
    """A deployment of an old version brings it back."""
    script = new_name("rollback")
    url, (old, new) = account.start_versions(script, 2)
    account.deploy(script, {new: 100})
    assert ask(url, 1) == {new: 1}
    assert account.deploy(script, {old: 100}).result
    assert ask(url, 1) == {old: 1}


def test_rollback_depth(account: EdgeAccount) -> None:
    """Only the 100 newest versions can be deployed, and `deployable=true` lists no others."""
    script = new_name("depth")
    account.upload(script)
    first = account.latest(script)["id"]
    scripts = account.edge.edge.scripts
    body = {"type": "secret_text", "name": "KEY", "text": "k"}
    account.call("PUT", f"/workers/scripts/{script}/secrets", body)
    _copy_newest_version(scripts, script, 98)
    assert account.deploy(script, {first: 100}, force=True).result
    _copy_newest_version(scripts, script, 1)
    assert account.deploy(script, {first: 100}, force=True).refusal == (400, 10210)
    path, page = f"/workers/scripts/{script}/versions", {"per_page": 100, "page": 2}
    assert len(account.call("GET", path, params=page).result["items"]) == 1
    assert account.call("GET", path, params={**page, "deployable": "true"}).result["items"] == []


def _copy_newest_version(scripts: Any, script: str, count: int) -> None:
    """Versions that nobody started, straight into the store: a hundred uploads would take seconds."""
    body = "replace(body, version_id, ?)"
    insert = f"""insert into versions select ?, script, number + 1, json_set({body}, '$.number', number + 1), created_on
                 from versions where script = ? order by number desc limit 1"""
    for number in range(count):
        version_id = f"{script}-{count}-{number}"
        scripts._store.db.execute(insert, (version_id, version_id, script))


def test_rollback_over_a_changed_secret(account: EdgeAccount) -> None:
    """An older version with other secrets is a 10220 that names them, unless forced."""
    script = new_name("secrets")
    account.upload(script, bindings=[secret("one")])
    old = account.latest(script)["id"]
    account.upload(script, bindings=[secret("two")])
    refused = account.deploy(script, {old: 100})
    assert refused.refusal == (400, 10220)
    assert refused.body["errors"][0]["message"].endswith("The following secrets have changed: KEY")
    assert account.deploy(script, {old: 100}, force=True).result


def test_a_new_secret_is_deployed_without_force(account: EdgeAccount) -> None:
    """Forwards nothing is asked, and while the new version stays beside the old one its share may change."""
    script = new_name("forward")
    account.upload(script, bindings=[secret("one")])
    old = account.latest(script)["id"]
    new = account.upload_version(script, bindings=[secret("two")]).result["id"]
    assert account.deploy(script, {old: 100, new: 0}).result
    assert account.deploy(script, {old: 50, new: 50}).result
    assert account.deploy(script, {old: 100}).refusal == (400, 10220)
    assert account.deploy(script, {new: 100}).result


def test_rollback_to_a_missing_resource(account: EdgeAccount) -> None:
    """A version whose queue was deleted cannot be deployed again."""
    script = new_name("missing")
    queue_id, queue = account.create_queue()
    account.upload(script, bindings=[{"type": "queue", "name": "Q", "queue_name": queue}])
    old = account.latest(script)["id"]
    account.upload(script)
    account.call("DELETE", f"/queues/{queue_id}")
    assert account.deploy(script, {old: 100}).refusal == (400, 11000)


def test_a_split_deployment_keeps_its_isolates(account: EdgeAccount) -> None:
    """A version that stays in the deployment goes on in the same isolate when its share changes."""
    script = new_name("isolate")
    counting = "let n = 0; export default { fetch() { return new Response(String(++n)) } };"
    url = account.publish(script, counting)
    live = account.latest(script)["id"]
    assert httpx.get(url).text == "1"
    candidate = account.upload_version(script, WHICH, bindings=[VERSION]).result["id"]
    account.deploy(script, {live: 100, candidate: 0})
    assert httpx.get(url).text == "2"


def test_bound_queues_of_all_deployed_versions(account: EdgeAccount) -> None:
    """A queue is in use as long as any version of the active deployment binds it."""
    script = new_name("uses")
    queue_id, queue = account.create_queue()
    account.upload(script)
    live = account.latest(script)["id"]
    bound = account.upload_version(script, bindings=[{"type": "queue", "name": "Q", "queue_name": queue}]).result["id"]
    account.deploy(script, {live: 100, bound: 0})
    assert account.call("GET", f"/queues/{queue_id}").result["producers"] == [{"type": "worker", "script": script}]
    assert account.call("DELETE", f"/queues/{queue_id}").refusal == (400, 11005)
    account.deploy(script, {live: 100})
    assert account.call("DELETE", f"/queues/{queue_id}").result is None


def test_deployments_survive_a_restart(workerd: Path, tmp_path: Path) -> None:
    """Versions, deployments, overrides and settings are there again after a restart."""
    with LocalEdge(dir=tmp_path, workerd=workerd) as edge:
        account = EdgeAccount(edge)
        url, (live, candidate, _) = account.start_versions("kept", 3)
        account.deploy("kept", {live: 100, candidate: 0})
        account.call("PATCH", "/workers/scripts/kept/script-settings", {"tags": ["kept"]})
        deployments = account.call("GET", "/workers/scripts/kept/deployments").result
        latest = account.latest("kept")
        account.http.close()
    with LocalEdge(dir=tmp_path, workerd=workerd) as edge:
        account = EdgeAccount(edge)
        assert account.call("GET", "/workers/scripts/kept/deployments").result == deployments
        assert account.latest("kept") == latest
        assert account.call("GET", "/workers/scripts/kept/script-settings").result["tags"] == ["kept"]
        assert ask(url, 5) == {live: 5}
        assert ask(url, 1, **{OVERRIDES: f'kept="{candidate}"'}) == {candidate: 1}
        account.http.close()
