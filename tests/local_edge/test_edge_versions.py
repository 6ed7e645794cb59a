"""Versions of a script: uploads that deploy nothing."""

from __future__ import annotations

import threading
import time

import httpx
import pytest
from edge_account import HELLO, VERSION, WHICH, EdgeAccount, new_name

SHOW_ENV = "export default { fetch(request, env) { return Response.json(env) } };"


def test_a_version_is_not_deployed(account: EdgeAccount) -> None:
    """An uploaded version answers nobody until a deployment names it."""
    script = new_name("version")
    url, (live, waiting) = account.start_versions(script, 2)
    assert httpx.get(url).text == live
    assert [item["version_id"] for item in account.active(script)["versions"]] == [live]
    assert account.deploy(script, {waiting: 100}).result["versions"] == [{"version_id": waiting, "percentage": 100}]
    assert httpx.get(url).text == waiting


def test_the_shape_of_a_version(account: EdgeAccount) -> None:
    """A version has id, number, metadata, annotations and resources, with the names of its secrets only."""
    script = new_name("shape")
    account.upload(script)
    bindings = [
        {"type": "plain_text", "name": "V", "text": "shown"},
        {"type": "secret_text", "name": "KEY", "text": "never shown"},
    ]
    created = account.upload_version(script, bindings=bindings, annotations={"workers/tag": "t1"})
    version = created.result
    assert "never shown" not in created.response.text
    assert (version["number"], len(version["id"])) == (2, 36)
    assert version["metadata"].keys() == {
        "created_on", "modified_on", "source", "author_id", "author_email", "hasPreview",
    }  # fmt: skip
    assert version["annotations"]["workers/tag"] == "t1"
    assert version["resources"]["bindings"] == [bindings[0], {"type": "secret_text", "name": "KEY"}]
    assert version["resources"]["script"]["handlers"] == ["fetch"]
    assert version["resources"]["script_runtime"]["compatibility_date"] == "2026-10-01"
    assert isinstance(version["startup_time_ms"], int)
    assert account.call("GET", f"/workers/scripts/{script}/versions/{version['id']}").result == version


def test_list_of_versions(account: EdgeAccount) -> None:
    """Versions are listed in pages of items, newest first, without their resources."""
    script = new_name("list")
    account.start_versions(script, 3)
    page = account.call("GET", f"/workers/scripts/{script}/versions", params={"per_page": 2})
    assert [item["number"] for item in page.result["items"]] == [3, 2]
    assert page.body["result_info"]["total_count"] == 3
    assert "resources" not in page.result["items"][0]
    second = account.call("GET", f"/workers/scripts/{script}/versions", params={"per_page": 2, "page": 2})
    assert [item["number"] for item in second.result["items"]] == [1]


def test_the_first_upload_is_a_put(account: EdgeAccount) -> None:
    """A version of a script that does not exist is a 10007, to read as to make."""
    script = new_name("none")
    assert account.upload_version(script).refusal == (404, 10007)
    assert account.call("GET", f"/workers/scripts/{script}/versions").refusal == (404, 10007)


def test_an_unknown_version(account: EdgeAccount) -> None:
    """A version that is not this script's is a 10071."""
    script, other = new_name("mine"), new_name("other")
    account.upload(script)
    account.upload(other)
    foreign = account.latest(other)["id"]
    assert account.call("GET", f"/workers/scripts/{script}/versions/{foreign}").refusal == (404, 10071)
    assert account.deploy(script, {foreign: 100}).refusal == (404, 10071)


def test_a_put_is_a_version_and_a_deployment(account: EdgeAccount) -> None:
    """A PUT numbers a new version and gives it everything; its deployment_id is the version's id without hyphens."""
    script = new_name("put")
    account.upload(script)
    result = account.upload(script).result
    version = account.latest(script)
    assert (version["number"], version["annotations"]["workers/triggered_by"]) == (2, "upload")
    assert result["deployment_id"] == version["id"].replace("-", "")
    assert account.active(script)["versions"] == [{"version_id": version["id"], "percentage": 100}]


def test_versions_are_es_modules(account: EdgeAccount) -> None:
    """What is no ES module Worker is a 10216 as a version, a 10021 as a script."""
    script = new_name("modules")
    account.upload(script)
    assert account.upload_version(script, kind="application/javascript").refusal == (400, 10216)
    assert account.upload_version(script, main_module=None, body_part="main.js").refusal == (400, 10216)
    assert account.upload(script, kind="application/javascript").refusal == (400, 10021)


def test_versions_carry_no_migrations(account: EdgeAccount) -> None:
    """Migrations in a version are a 10211."""
    script = new_name("migrations")
    account.upload(script)
    assert account.upload_version(script, migrations={"new_tag": "v1", "new_classes": ["C"]}).refusal == (400, 10211)


def test_the_same_checks_as_for_a_script(account: EdgeAccount) -> None:
    """A version that does not start, or is bound to nothing, is refused and leaves no trace."""
    script = new_name("checks")
    account.upload(script)
    for code in (
        "throw new Error('boom')",
        HELLO + "export const number = 5;",
        "await fetch('https://example.com');" + HELLO,
    ):
        assert account.upload_version(script, code).refusal == (400, 10021), code
    queue = {"type": "queue", "name": "Q", "queue_name": "no-such-queue"}
    assert account.upload_version(script, bindings=[queue]).refusal == (400, 11000)
    assert account.latest(script)["number"] == 1


def test_annotations(account: EdgeAccount) -> None:
    """A message is cut to 1,000 bytes without breaking a character; a tag has at most 100 bytes."""
    script = new_name("annotated")
    account.upload(script)
    annotations = {"workers/message": "é" * 600, "workers/tag": "t" * 100}
    kept = account.upload_version(script, annotations=annotations).result["annotations"]
    assert (kept["workers/message"], kept["workers/tag"]) == ("é" * 500, "t" * 100)
    assert account.upload_version(script, annotations={"workers/tag": "t" * 101}).refusal == (400, 10021)
    assert account.upload_version(script, annotations={"worker/tag": "t"}).refusal == (400, 10021)


def test_inheritance_is_from_the_latest_version(account: EdgeAccount) -> None:
    """Bindings are inherited from the version made last, deployed or not, unless one is named."""
    script = new_name("inherit")
    url = account.publish(script, SHOW_ENV, bindings=[{"type": "plain_text", "name": "V", "text": "first"}])
    first = account.latest(script)["id"]
    account.upload_version(script, SHOW_ENV, bindings=[{"type": "plain_text", "name": "V", "text": "second"}])
    inherit = {"type": "inherit", "name": "LATEST", "old_name": "V", "version_id": "latest"}
    named = {"type": "inherit", "name": "NAMED", "old_name": "V", "version_id": first}
    account.publish(script, SHOW_ENV, bindings=[{"type": "inherit", "name": "V"}, inherit, named])
    assert httpx.get(url).json() == {"V": "second", "LATEST": "second", "NAMED": "first"}
    gone = {"type": "inherit", "name": "V", "version_id": "0" * 36}
    assert account.upload(script, bindings=[gone]).refusal == (400, 10057)


def test_a_kept_binding_leads_somewhere(account: EdgeAccount) -> None:
    """What is kept by its type is checked like what is sent: its queue may be gone."""
    script = new_name("kept")
    queue_id, queue = account.create_queue()
    account.upload(script)
    account.upload_version(script, bindings=[{"type": "queue", "name": "Q", "queue_name": queue}])
    account.call("DELETE", f"/queues/{queue_id}")
    assert account.upload(script, keep_bindings=["queue"]).refusal == (400, 11000)
    assert account.upload(script, keep_bindings=["secret"]).refusal == (400, 10021)


def test_one_change_at_a_time(account: EdgeAccount) -> None:
    """While somebody changes a script, another change is refused with 10035 and works afterwards."""
    script = new_name("busy")
    account.upload(script)
    slow = "for (let n = 0; n < 5e8; n++);" + HELLO
    first = threading.Thread(target=lambda: account.upload_version(script, slow))
    first.start()
    codes = set()
    while first.is_alive():
        answer = account.call("PATCH", f"/workers/scripts/{script}/script-settings", {"logpush": False})
        codes.add(None if answer.status == 200 else answer.refusal)
        time.sleep(0.02)
    first.join()
    assert (400, 10035) in codes
    assert account.upload(script).result


def test_startup_time(account: EdgeAccount) -> None:
    """A global scope that computes for more than a second is a 10021."""
    answer = account.upload(new_name("slow"), "for (let n = 0; n < 1e10; n++);" + HELLO)
    assert answer.refusal == (400, 10021)
    assert answer.body["errors"][0]["message"] == "Script startup exceeded CPU time limit."


@pytest.mark.parametrize("code", ["export default {};", "export const helper = {};", "const x = 1;"])
def test_a_worker_without_handlers(account: EdgeAccount, code: str) -> None:
    """A Worker that exports no handler is a 10068."""
    assert account.upload(new_name("empty"), code).refusal == (400, 10068)


def test_handlers_are_found(account: EdgeAccount) -> None:
    """Handlers are those of the default export, an object or a class; other exports have theirs by name."""
    code = """
    import { WorkerEntrypoint } from "cloudflare:workers";
    export default class extends WorkerEntrypoint { fetch() { return new Response("ok"); } queue() {} }
    export class Admin extends WorkerEntrypoint { fetch() { return new Response("admin"); } }
    export const limits = { most: 5 };
    """
    result = account.upload(new_name("handlers"), code).result
    assert result["handlers"] == ["fetch", "queue"]
    assert result["named_handlers"] == [{"name": "Admin", "handlers": ["fetch"]}]


@pytest.mark.parametrize(
    "metadata", [{"keep_binding": []}, {"assets": {}}, {"migrations": {"new_tag": "v1"}}, {"compatibility_flags": "x"}]
)
def test_metadata_that_does_nothing_is_refused(account: EdgeAccount, metadata: dict[str, object]) -> None:
    """A key that nobody knows, or that does not run here, is a 10021 rather than left out."""
    assert account.upload(new_name("metadata"), **metadata).refusal == (400, 10021)


def test_a_tag_is_not_handed_on(account: EdgeAccount) -> None:
    """A version made by a secret's change has neither tag nor message of the one before."""
    script = new_name("tagged")
    account.upload(script, WHICH, bindings=[VERSION], annotations={"workers/tag": "v1"})
    secret = {"type": "secret_text", "name": "KEY", "text": "k"}
    account.call("PUT", f"/workers/scripts/{script}/secrets", secret)
    assert account.latest(script)["annotations"] == {"workers/triggered_by": "secret"}
