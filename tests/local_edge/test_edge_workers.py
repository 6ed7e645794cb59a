"""Workers scripts over the REST API, run by a real workerd."""

from __future__ import annotations

import httpx
import pytest
from edge_account import JAVASCRIPT, EdgeAccount, new_name

SHOW_ENV = "export default { fetch(request, env) { return Response.json(env); } };"


def test_upload_runs(account: EdgeAccount) -> None:
    """An uploaded Worker answers at its own address once workers.dev is enabled, and with 1042 before."""
    script = new_name("hello")
    result = account.upload(script).result
    assert (result["id"], result["has_modules"], result["entry_point"]) == (script, True, "main.js")
    before = httpx.get(account.edge.worker_url(script))
    assert (before.status_code, before.text) == (404, "error code: 1042")
    url = account.publish(script)
    assert httpx.get(url).json() == {"greeting": "hello"}
    assert account.call("DELETE", f"/workers/scripts/{script}/subdomain").result["enabled"] is False
    assert httpx.get(url).status_code == 404


def test_all_bindings_of_variables(account: EdgeAccount) -> None:
    """Variables, secrets and JSON arrive as they were sent, whatever characters they have."""
    text = 'quote " back \\ line \n é 漢 \u0001'
    bindings = [
        {"type": "plain_text", "name": "TEXT", "text": text},
        {"type": "secret_text", "name": "SECRET", "text": text},
        {"type": "json", "name": "JSON", "json": {"list": [1, text]}},
        {"type": "version_metadata", "name": "VERSION"},
    ]
    url = account.publish(new_name("vars"), SHOW_ENV, bindings=bindings, annotations={"workers/tag": "v1"})
    env = httpx.get(url).json()
    assert env["TEXT"] == text
    assert env["SECRET"] == text
    assert env["JSON"] == {"list": [1, text]}
    assert env["VERSION"]["tag"] == "v1"


def test_module_kinds(account: EdgeAccount) -> None:
    """Text imports as a string, data as an ArrayBuffer, wasm as a module, by the name that the filename gives."""
    code = """
    import text from "./lib/plan.json"; import data from "./lib/bits.bin"; import wasm from "./lib/empty.wasm";
    import { one } from "./lib/one.js";
    export default { fetch() {
      return Response.json([text, data.byteLength, wasm instanceof WebAssembly.Module, one]);
    } };
    """
    modules = [
        ("lib/plan.json", '{"a":"é"}', "text/plain"),
        ("lib/bits.bin", b"\x00\xff\x80", "application/octet-stream"),
        ("lib/empty.wasm", b"\x00asm\x01\x00\x00\x00", "application/wasm"),
        ("lib/one.js", "export const one = 1;", JAVASCRIPT),
    ]
    url = account.publish(new_name("modules"), code, modules=modules)
    assert httpx.get(url).json() == ['{"a":"é"}', 3, True, 1]


def test_main_module_is_found_by_filename(account: EdgeAccount) -> None:
    """The filename of a part is the module's name; the part's own name is nothing."""
    script = new_name("filename")
    files = [
        ("metadata", (None, '{"main_module":"main.js","compatibility_date":"2026-10-01"}', "application/json")),
        ("files", ("main.js", "export default { fetch() { return new Response('ok') } }", JAVASCRIPT)),
    ]
    assert account.http.put(f"/workers/scripts/{script}", files=files).json()["success"]
    files[1] = ("main.js", ("other.js", "export default {}", JAVASCRIPT))
    refused = account.http.put(f"/workers/scripts/{script}", files=files).json()
    assert refused["errors"][0]["code"] == 10021


@pytest.mark.parametrize(
    ("code", "said"),
    [("throw new Error('boom')", "boom"), ("export default {", "SyntaxError"), ("import './none.js'", "none.js")],
    ids=["throws", "syntax", "import"],
)
def test_a_worker_that_does_not_start_is_refused(account: EdgeAccount, code: str, said: str) -> None:
    """What fails in the global scope is a 10021 with workerd's words, and the live version stays live."""
    script = new_name("broken")
    url = account.publish(script)
    answer = account.upload(script, code)
    assert answer.refusal == (400, 10021)
    assert said in answer.body["errors"][0]["message"]
    assert httpx.get(url).json() == {"greeting": "hello"}
    never_live = new_name("never")
    assert account.upload(never_live, code).refusal == (400, 10021)
    assert account.call("GET", f"/workers/scripts/{never_live}/settings").refusal == (404, 10007)


BAD_BINDINGS = [
    ({"type": "queue", "name": "Q", "queue_name": "no-such-queue"}, 11000),
    ({"type": "kv_namespace", "name": "KV", "namespace_id": "0" * 32}, 10041),
    ({"type": "kv_namespace", "name": "KV", "namespace_id": "my-namespace"}, 10042),
    ({"type": "service", "name": "S", "service": "no-such-worker"}, 10143),
    ({"type": "plain_text", "name": "V", "text": "x" * 5001}, 10054),
    ({"type": "inherit", "name": "GONE"}, 10057),
    ({"type": "plain_text", "text": "nameless"}, 10052),
    ({"type": "d1", "name": "DB", "id": "x"}, 10021),
]


@pytest.mark.parametrize(("binding", "code"), BAD_BINDINGS, ids=[str(code) for _, code in BAD_BINDINGS])
def test_bad_bindings(account: EdgeAccount, binding: dict[str, str], code: int) -> None:
    """A binding that leads nowhere refuses the upload."""
    assert account.upload(new_name("bound"), bindings=[binding]).refusal == (400, code)


def test_bindings_have_distinct_names(account: EdgeAccount) -> None:
    """The same binding name twice is a 10053."""
    twice = [{"type": "plain_text", "name": "V", "text": text} for text in "ab"]
    assert account.upload(new_name("twice"), bindings=twice).refusal == (400, 10053)


@pytest.mark.parametrize("name", ["Upper", "1digit", "dash-", "under_score", "x" * 64])
def test_script_names(account: EdgeAccount, name: str) -> None:
    """A script's name is lower case letters, digits and inner dashes, at most 63, from a letter on."""
    assert account.upload(name).refusal == (400, 10016)


def test_unknown_content_type(account: EdgeAccount) -> None:
    """There is no JSON module type: such a part is refused."""
    answer = account.upload(new_name("json"), modules=[("plan.json", "{}", "application/json")])
    assert answer.refusal == (400, 10021)


def test_worker_size(account: EdgeAccount) -> None:
    """64 MiB are accepted and run, one byte more is a 10027."""
    script = new_name("large")
    code = "import d from './d'; export default { fetch() { return new Response(d.byteLength) } }"
    room = 64 * 1024 * 1024 - len(code)
    kind = "application/octet-stream"
    assert account.upload(script, code, modules=[("d", bytes(room + 1), kind)]).refusal == (413, 10027)
    url = account.publish(script, code, modules=[("d", bytes(room), kind)])
    assert httpx.get(url).text == str(room)


def test_bindings_that_an_upload_keeps(account: EdgeAccount) -> None:
    """A PUT replaces all: what is neither sent, inherited nor kept by its type is gone."""
    script = new_name("keep")
    first = [
        {"type": "secret_text", "name": "KEY", "text": "k1"},
        {"type": "plain_text", "name": "OLD", "text": "old"},
        {"type": "plain_text", "name": "LOST", "text": "lost"},
    ]
    url = account.publish(script, SHOW_ENV, bindings=first)
    inherit = [{"type": "inherit", "name": "NEW", "old_name": "OLD"}]
    account.publish(script, SHOW_ENV, bindings=inherit, keep_bindings=["secret_text"])
    assert httpx.get(url).json() == {"KEY": "k1", "NEW": "old"}
    account.publish(script, SHOW_ENV)
    assert httpx.get(url).json() == {}


def test_unresolved_inheritance_is_dropped_unless_strict(account: EdgeAccount) -> None:
    """Without bindings_inherit=strict an inherit binding without an origin is left out in silence."""
    inherit = [{"type": "inherit", "name": "GONE"}]
    assert account.upload(new_name("loose"), bindings=inherit, strict=False).result


def test_settings_hide_secrets(account: EdgeAccount) -> None:
    """Settings show variables with their text and secrets by name only."""
    script = new_name("settings")
    bindings = [
        {"type": "secret_text", "name": "KEY", "text": "hidden"},
        {"type": "plain_text", "name": "V", "text": "shown"},
    ]
    account.upload(script, bindings=bindings, compatibility_flags=["nodejs_compat"], tags=["t"])
    answer = account.call("GET", f"/workers/scripts/{script}/settings")
    assert "hidden" not in answer.response.text
    assert answer.result["bindings"] == [{"type": "secret_text", "name": "KEY"}, bindings[1]]
    assert answer.result["compatibility_date"] == "2026-10-01"
    assert answer.result["compatibility_flags"] == ["nodejs_compat"]
    assert answer.result["tags"] == ["t"]


def test_compatibility_date_default(account: EdgeAccount) -> None:
    """An upload without a compatibility date runs with that of 2021-11-02."""
    script = new_name("date")
    assert account.upload(script, compatibility_date=None).result["compatibility_date"] == "2021-11-02"


def test_secrets(account: EdgeAccount) -> None:
    """Putting or deleting a secret deploys a new version; listing gives names, never values."""
    script = new_name("secrets")
    path = f"/workers/scripts/{script}/secrets"
    assert account.call("GET", path).refusal == (404, 10007)
    url = account.publish(script, SHOW_ENV)
    body = {"type": "secret_text", "name": "KEY", "text": "value"}
    assert account.call("PUT", path, body).result == {"name": "KEY", "type": "secret_text"}
    assert httpx.get(url).json() == {"KEY": "value"}
    assert account.call("GET", path).result == [{"name": "KEY", "type": "secret_text"}]
    assert account.call("DELETE", f"{path}/KEY").result is None
    assert httpx.get(url).json() == {}
    assert account.call("DELETE", f"{path}/KEY").refusal == (404, 10056)


def test_service_binding(account: EdgeAccount) -> None:
    """A Worker reaches another by service binding, also where that one has no public address."""
    inner, outer = new_name("inner"), new_name("outer")
    account.upload(inner)
    code = "export default { fetch(request, env) { return env.INNER.fetch(request); } };"
    url = account.publish(outer, code, bindings=[{"type": "service", "name": "INNER", "service": inner}])
    assert httpx.get(url).json() == {"greeting": "hello"}
    assert account.call("DELETE", f"/workers/scripts/{inner}").refusal == (400, 10142)


def test_scripts_by_tag(account: EdgeAccount) -> None:
    """The list of scripts can be narrowed by the tags that they have, or have not."""
    both, one, tag = new_name("tagged"), new_name("tagged"), f"managed-by:{new_name('tag')}"
    account.upload(both, tags=[tag, "eu"])
    account.upload(one, tags=[tag])

    def list_names(tags: str) -> set[str]:
        return {item["id"] for item in account.call("GET", "/workers/scripts", params={"tags": tags}).result}

    assert list_names(f"{tag}:yes") == {both, one}
    assert list_names(f"{tag}:yes,eu:no") == {one}
    assert account.call("GET", "/workers/scripts", params={"tags": "eu"}).refusal == (400, 10026)


def test_number_of_scripts(account: EdgeAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account that is full takes no new script (10037), and new versions of those it has."""
    script = new_name("full")
    account.upload(script)
    monkeypatch.setattr("local_edge.api_workers.SCRIPT_COUNT_LIMIT", 1)
    assert account.upload(new_name("full")).refusal == (400, 10037)
    assert account.upload(script).result


def test_delete_script(account: EdgeAccount) -> None:
    """A deleted script is gone from the list and from its address."""
    script = new_name("deleted")
    url = account.publish(script)
    assert script in [item["id"] for item in account.call("GET", "/workers/scripts").result]
    account.call("DELETE", f"/workers/scripts/{script}")
    assert script not in [item["id"] for item in account.call("GET", "/workers/scripts").result]
    assert account.call("GET", f"/workers/scripts/{script}/subdomain").refusal == (404, 10007)
    with pytest.raises(httpx.TransportError):
        httpx.get(url)


def test_subdomain(account: EdgeAccount) -> None:
    """An account without a workers.dev subdomain answers 10007, and enabling workers.dev there is a 10063."""
    script = new_name("sub")
    account.upload(script)
    subdomain = account.call("GET", "/workers/subdomain").result["subdomain"]
    account.call("DELETE", "/workers/subdomain")
    assert account.call("GET", "/workers/subdomain").refusal == (404, 10007)
    enable = {"enabled": True, "previews_enabled": False}
    assert account.call("POST", f"/workers/scripts/{script}/subdomain", enable).refusal == (400, 10063)
    account.call("PUT", "/workers/subdomain", {"subdomain": subdomain})
    assert account.call("POST", f"/workers/scripts/{script}/subdomain", enable).result == enable


@pytest.mark.parametrize("token", ["", "Bearer", "Basic x"])
def test_without_a_token(account: EdgeAccount, token: str) -> None:
    """Without a bearer token every API call is a 401 with 10000."""
    answer = account.call("GET", "/queues", headers={"authorization": token})
    assert answer.refusal == (401, 10000)


def test_unknown_route_and_foreign_account(account: EdgeAccount) -> None:
    """An unknown route is a 7003; an account that is not ours a 10000."""
    assert account.call("GET", "/no/such/route").refusal == (404, 7003)
    foreign = httpx.get(f"{account.edge.api_url}/accounts/{'0' * 32}/queues", headers={"authorization": "Bearer t"})
    assert (foreign.status_code, foreign.json()["errors"][0]["code"]) == (403, 10000)


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"no form", 10006), (b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{\r\n--b--\r\n', 10006)],
)
def test_unreadable_upload(account: EdgeAccount, body: bytes, code: int) -> None:
    """A form without readable metadata is a 10006."""
    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = account.http.put(f"/workers/scripts/{new_name('form')}", content=body, headers=headers)
    assert response.json()["errors"][0]["code"] == code
