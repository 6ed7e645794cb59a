"""Settings of a script: those of its latest version, its own, and its workers.dev address."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from edge_account import Answer, EdgeAccount, new_name

SHOW_ENV = "export default { fetch(request, env) { return Response.json(env) } };"


def text(name: str, value: str) -> dict[str, str]:
    return {"type": "plain_text", "name": name, "text": value}


def patch_settings(account: EdgeAccount, script: str, settings: Any) -> Answer:
    files = {"settings": (None, json.dumps(settings), "application/json")}
    return Answer(account.http.patch(f"/workers/scripts/{script}/settings", files=files))


def test_settings_are_those_of_the_latest_version(account: EdgeAccount) -> None:
    """Settings tell of the version made last, even when another one serves."""
    script = new_name("latest")
    account.upload(script, bindings=[text("V", "live")])
    account.upload_version(script, bindings=[text("V", "waiting")])
    settings = account.call("GET", f"/workers/scripts/{script}/settings").result
    assert settings["bindings"] == [text("V", "waiting")]
    assert account.call("GET", f"/workers/scripts/{new_name('none')}/settings").refusal == (404, 10007)


def test_patch_settings(account: EdgeAccount) -> None:
    """What is named changes and goes live as a new version; what is not named stays."""
    script = new_name("patch")
    url = account.publish(script, SHOW_ENV, bindings=[text("A", "a"), text("B", "b")], tags=["kept"])
    changed = [{"type": "inherit", "name": "A"}, text("C", "c")]
    result = patch_settings(account, script, {"bindings": changed, "limits": {"cpu_ms": 50}}).result
    assert httpx.get(url).json() == {"A": "a", "C": "c"}
    assert (result["limits"], result["tags"], result["compatibility_date"]) == ({"cpu_ms": 50}, ["kept"], "2026-10-01")
    assert account.latest(script)["annotations"]["workers/triggered_by"] == "settings"
    patch_settings(account, script, {"compatibility_flags": ["nodejs_compat"]})
    assert httpx.get(url).json() == {"A": "a", "C": "c"}
    assert account.latest(script)["number"] == 3


def test_patch_settings_that_no_version_has(account: EdgeAccount) -> None:
    """Tags and logs belong to the script: changing them makes no version."""
    script = new_name("own")
    account.upload(script)
    assert patch_settings(account, script, {"logpush": True}).result["logpush"] is True
    assert account.latest(script)["number"] == 1


def test_patch_settings_beside_a_waiting_version(account: EdgeAccount) -> None:
    """Settings of a version cannot change while the latest one is not deployed (10214); the script's own can."""
    script = new_name("waiting")
    account.upload(script)
    account.upload_version(script)
    assert patch_settings(account, script, {"bindings": []}).refusal == (400, 10214)
    assert patch_settings(account, script, {"tags": ["t"]}).result["tags"] == ["t"]


def test_unreadable_settings(account: EdgeAccount) -> None:
    """Settings are changed by a form with the part `settings`."""
    script = new_name("form")
    account.upload(script)
    path = f"/workers/scripts/{script}/settings"
    assert account.call("PATCH", path, {"logpush": True}).refusal == (400, 10001)
    assert Answer(account.http.patch(path, files={"other": (None, "{}")})).refusal == (400, 10006)
    assert Answer(account.http.patch(path, files={"settings": (None, "[")})).refusal == (400, 10006)
    for settings in ({"binding": []}, {"main_module": "main.js"}):
        assert patch_settings(account, script, settings).refusal == (400, 10021)


def test_script_settings(account: EdgeAccount) -> None:
    """Tags, logpush, observability and tail consumers are changed in place, one by one."""
    script, tail = new_name("script"), new_name("tail")
    account.upload(script)
    account.upload(tail)
    path = f"/workers/scripts/{script}/script-settings"
    before = {"logpush": False, "observability": {"enabled": False}, "tags": [], "tail_consumers": []}
    assert account.call("GET", path).result == before
    observability = {"enabled": True, "head_sampling_rate": 0.5}
    after = {**before, "observability": observability, "tags": ["managed-by:sync"]}
    changes = {"observability": observability, "tags": ["managed-by:sync"]}
    assert account.call("PATCH", path, changes).result == after == account.call("GET", path).result
    consumers = [{"service": tail}]
    assert account.call("PATCH", path, {"tail_consumers": consumers}).result["tail_consumers"] == consumers
    assert account.latest(script)["number"] == 1


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"logpush": "yes"}, 10026),
        ({"observability": {}}, 10026),
        ({"tags": ["t"] * 9}, 100102),
        ({"tags": [1]}, 100103),
        ({"tail_consumers": [{"service": "no-such-worker"}]}, 10143),
        ({"bindings": []}, 10026),
    ],
)
def test_wrong_script_settings(account: EdgeAccount, settings: dict[str, Any], code: int) -> None:
    """What is of another shape, or leads nowhere, is refused."""
    script = new_name("wrong")
    account.upload(script)
    assert account.call("PATCH", f"/workers/scripts/{script}/script-settings", settings).refusal == (400, code)


def test_which_upload_sets_script_settings(account: EdgeAccount) -> None:
    """A PUT sets the script's own settings, those it does not name too; a version leaves them alone."""
    script = new_name("sets")
    path = f"/workers/scripts/{script}/script-settings"
    account.upload(script, tags=["put"], observability={"enabled": True})
    account.upload_version(script, tags=["version"])
    assert account.call("GET", path).result["tags"] == ["put"]
    account.upload(script)
    assert account.call("GET", path).result["tags"] == []
    assert account.call("GET", path).result["observability"] == {"enabled": False}


def test_script_subdomain(account: EdgeAccount) -> None:
    """Previews follow `enabled` where they are not named; an unknown script is a 10007."""
    script = new_name("dev")
    path = f"/workers/scripts/{script}/subdomain"
    assert account.call("POST", path, {"enabled": True}).refusal == (404, 10007)
    account.upload(script)
    assert account.call("GET", path).result == {"enabled": False, "previews_enabled": False}
    assert account.call("POST", path, {"enabled": True}).result == {"enabled": True, "previews_enabled": True}
    off = {"enabled": True, "previews_enabled": False}
    assert account.call("POST", path, off).result == off == account.call("GET", path).result
    assert account.call("POST", path, {"enabled": "yes"}).refusal == (400, 10026)


def test_workers_dev_stays_as_it_was(account: EdgeAccount) -> None:
    """A new deployment leaves the address as it is, on or off."""
    script = new_name("stays")
    url = account.publish(script)
    account.upload(script)
    assert httpx.get(url).status_code == 200
    account.call("DELETE", f"/workers/scripts/{script}/subdomain")
    account.upload(script)
    assert httpx.get(url).status_code == 404


def test_number_of_variables(account: EdgeAccount) -> None:
    """128 variables and secrets are accepted, one more is a 10055, by secrets too."""
    script = new_name("many")
    bindings = [text(f"V{number}", "x") for number in range(128)]
    assert account.upload(script, bindings=[*bindings, text("MORE", "x")]).refusal == (400, 10055)
    assert account.upload(script, bindings=bindings).result
    secret = {"type": "secret_text", "name": "KEY", "text": "k"}
    assert account.call("PUT", f"/workers/scripts/{script}/secrets", secret).refusal == (400, 10055)


@pytest.mark.parametrize(
    ("binding", "code"),
    [
        ({"type": "plain_text", "name": "n" * 129, "text": ""}, 10100),
        ({"type": "plain_text", "name": "has space", "text": ""}, 10021),
        ({"type": "plain_text", "name": "V", "text": "", "value": ""}, 10021),
        ({"type": "plain_text", "name": "V"}, 10021),
        ({"type": "inherit", "name": "V", "version_id": 5}, 10021),
        ({"type": "service", "name": "S", "service": "s", "entrypoint": "Named"}, 10021),
    ],
)
def test_shapes_of_bindings(account: EdgeAccount, binding: dict[str, str], code: int) -> None:
    """A binding has an identifier as its name, and the fields of its type and no others."""
    assert account.upload(new_name("binding"), bindings=[binding]).refusal == (400, code)
