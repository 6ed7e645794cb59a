"""Secrets of a script, each change of them a version that goes live at once."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from edge_account import Answer, EdgeAccount, new_name

SHOW_ENV = "export default { fetch(request, env) { return Response.json(env) } };"


def secret(name: str, text: str) -> dict[str, str]:
    return {"type": "secret_text", "name": name, "text": text}


def patch_secrets(
    account: EdgeAccount, script: str, secrets: Any, kind: str = "application/merge-patch+json"
) -> Answer:
    path = f"/workers/scripts/{script}/secrets-bulk"
    return Answer(account.http.patch(path, content=json.dumps({"secrets": secrets}), headers={"content-type": kind}))


def test_each_secret_is_a_version(account: EdgeAccount) -> None:
    """Putting and deleting a secret each make a version and deploy it."""
    script = new_name("versions")
    account.upload(script)
    path = f"/workers/scripts/{script}/secrets"
    for number, method, where in ((2, "PUT", path), (3, "DELETE", f"{path}/KEY?url_encoded=true")):
        body = secret("KEY", "k") if method == "PUT" else None
        account.call(method, where, body)
        latest = account.latest(script)
        assert latest["number"] == number
        assert account.active(script)["versions"] == [{"version_id": latest["id"], "percentage": 100}]
        assert account.active(script)["annotations"]["workers/triggered_by"] == "secret"


def test_one_secret(account: EdgeAccount) -> None:
    """A secret is shown by name and type; one that is not there is a 10056."""
    script = new_name("one")
    account.upload(script, bindings=[secret("KEY", "value")])
    path = f"/workers/scripts/{script}/secrets"
    assert account.call("GET", f"{path}/KEY").result == {"name": "KEY", "type": "secret_text"}
    assert account.call("GET", f"{path}/NONE").refusal == (404, 10056)


def test_secrets_in_bulk(account: EdgeAccount) -> None:
    """Many secrets are set and deleted in one version."""
    script = new_name("bulk")
    url = account.publish(script, SHOW_ENV, bindings=[secret("OLD", "o"), secret("KEPT", "k")])
    changed = {"A": secret("A", "a"), "OLD": None, "NEVER": None}
    result = patch_secrets(account, script, changed).result
    assert result == {"A": {"name": "A", "type": "secret_text"}}
    assert httpx.get(url).json() == {"KEPT": "k", "A": "a"}
    assert account.latest(script)["number"] == 2


@pytest.mark.parametrize(
    "secrets", [{}, [], {"A": secret("B", "b")}, {"A": {"text": "a"}}, {f"S{n}": None for n in range(101)}], ids=repr
)
def test_wrong_bulk(account: EdgeAccount, secrets: Any) -> None:
    """Secrets stand under their names, at least one and at most a hundred."""
    script = new_name("wrong")
    account.upload(script)
    assert patch_secrets(account, script, secrets).refusal == (400, 10026)


def test_bulk_content_type(account: EdgeAccount) -> None:
    """A bulk change is a merge patch by its content type."""
    script = new_name("type")
    account.upload(script)
    assert patch_secrets(account, script, {"A": None}, "application/json").refusal == (400, 10001)


def test_secrets_beside_a_waiting_version(account: EdgeAccount) -> None:
    """While the latest version is not the one that serves, changing a secret is a 10215 and changes nothing."""
    script = new_name("waiting")
    account.upload(script)
    live = account.latest(script)["id"]
    waiting = account.upload_version(script).result["id"]
    put = ("PUT", f"/workers/scripts/{script}/secrets", secret("KEY", "k"))
    assert account.call(*put).refusal == (400, 10215)
    account.deploy(script, {waiting: 50, live: 50})
    assert account.call(*put).refusal == (400, 10215)
    assert patch_secrets(account, script, {"KEY": secret("KEY", "k")}).refusal == (400, 10215)
    account.deploy(script, {waiting: 100})
    assert account.call(*put).result


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (secret("KEY", "x" * 5001), 10054),
        (secret("not a name", "x"), 10021),
        (secret("", "x"), 10026),
        ({"type": "plain_text", "name": "KEY", "text": "x"}, 10026),
        (secret("V", "x"), 10053),
    ],
)
def test_wrong_secrets(account: EdgeAccount, body: dict[str, str], code: int) -> None:
    """A secret has an identifier that no variable has, and at most 5 KB."""
    script = new_name("wrong")
    account.upload(script, bindings=[{"type": "plain_text", "name": "V", "text": "variable"}])
    assert account.call("PUT", f"/workers/scripts/{script}/secrets", body).refusal == (400, code)
