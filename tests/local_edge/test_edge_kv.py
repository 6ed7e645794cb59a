"""Workers KV over the REST API and from a Worker."""

from __future__ import annotations

import time
from urllib.parse import quote

import httpx
import pytest
from edge_account import EdgeAccount, new_name

NAMESPACES = "/storage/kv/namespaces"


@pytest.fixture
def namespace(account: EdgeAccount) -> str:
    """The path of a fresh namespace."""
    return f"{NAMESPACES}/{account.call('POST', NAMESPACES, {'title': new_name('kv')}).result['id']}"


def test_namespaces(account: EdgeAccount) -> None:
    """Titles are unique, lists paged, a deleted namespace is not found."""
    title = new_name("kv")
    created = account.call("POST", NAMESPACES, {"title": title}).result
    assert (created["title"], len(created["id"])) == (title, 32)
    assert account.call("POST", NAMESPACES, {"title": title}).refusal == (400, 10014)
    account.call("POST", NAMESPACES, {"title": new_name("kv")})
    page = account.call("GET", NAMESPACES, params={"per_page": 1, "page": 2})
    assert len(page.result) == 1
    assert page.body["result_info"]["total_pages"] >= 2
    account.call("DELETE", f"{NAMESPACES}/{created['id']}")
    assert account.call("GET", f"{NAMESPACES}/{created['id']}/keys").status == 404


def test_pages_of_namespaces(account: EdgeAccount) -> None:
    """20 namespaces are a page unless more are asked for, at most 100; every one is on one of the pages."""
    created = {account.call("POST", NAMESPACES, {"title": new_name("kv")}).result["id"] for _ in range(21)}
    assert len(account.call("GET", NAMESPACES).result) == 20
    assert account.call("GET", NAMESPACES, params={"per_page": 101}).refusal == (400, 10026)
    found: list[str] = []
    for page in range(1, 100):
        items = account.call("GET", NAMESPACES, params={"per_page": 10, "page": page, "order": "id"}).result
        found += [item["id"] for item in items]
        if not items:
            break
    assert found == sorted(set(found))
    assert created <= set(found)


def test_rename(account: EdgeAccount) -> None:
    """A namespace may take a new title, not one that another has."""
    first, second = new_name("kv"), new_name("kv")
    account.call("POST", NAMESPACES, {"title": first})
    path = f"{NAMESPACES}/{account.call('POST', NAMESPACES, {'title': second}).result['id']}"
    assert account.call("PUT", path, {"title": first}).refusal == (400, 10014)
    assert account.call("PUT", path, {"title": second}).result is None
    assert account.call("PUT", path, {"title": new_name("kv")}).result is None


@pytest.mark.parametrize("key", ["plain", "a b/c?é%", "a/../b", "x" * 512])
def test_values(account: EdgeAccount, namespace: str, key: str) -> None:
    """A value comes back as its bytes, not in an envelope, whatever its key is; a missing one is a 404."""
    path = f"{namespace}/values/{quote(key, safe='')}"
    assert account.call("GET", path).status == 404
    assert account.http.put(path, content=b"\x00\xff").json()["success"]
    assert account.http.get(path).content == b"\x00\xff"
    assert [item["name"] for item in account.call("GET", f"{namespace}/keys").result] == [key]


def test_key_limit(account: EdgeAccount, namespace: str) -> None:
    """A key has at most 512 bytes."""
    assert account.http.put(f"{namespace}/values/{'x' * 513}", content=b"v").status_code == 414


def test_expiry(account: EdgeAccount, namespace: str) -> None:
    """A time to live is at least 60 s and shows as the expiration; metadata comes beside the value."""
    path = f"{namespace}/values/k"
    assert account.http.put(path, content=b"v", params={"expiration_ttl": 59}).status_code == 400
    form = {"value": (None, "v"), "metadata": (None, '{"m":1}')}
    assert account.http.put(path, files=form, params={"expiration_ttl": 60}).json()["success"]
    response = account.http.get(path)
    assert response.text == "v"
    assert int(response.headers["expiration"]) == pytest.approx(time.time() + 60, abs=5)
    (key,) = account.call("GET", f"{namespace}/keys").result
    assert key["metadata"] == {"m": 1}
    assert account.call("GET", f"{namespace}/metadata/k").result == {"m": 1}


def test_one_write_a_second(account: EdgeAccount, namespace: str) -> None:
    """A second write to a key within a second is a 429; another key is free."""
    assert account.http.put(f"{namespace}/values/k", content=b"1").status_code == 200
    assert account.http.put(f"{namespace}/values/k", content=b"2").status_code == 429
    assert account.http.put(f"{namespace}/values/other", content=b"1").status_code == 200
    assert account.http.get(f"{namespace}/values/k").content == b"1"


def test_bulk(account: EdgeAccount, namespace: str) -> None:
    """Bulk writes name what they could not write; keys are listed in pages until the cursor is empty."""
    pairs = [{"key": f"k{number:02}", "value": str(number)} for number in range(25)]
    pairs.append({"key": "bytes", "value": "AP8=", "base64": True, "metadata": {"m": 1}})
    assert account.call("PUT", f"{namespace}/bulk", pairs).result["successful_key_count"] == 26
    again = account.call("PUT", f"{namespace}/bulk", pairs[:1]).result
    assert again["unsuccessful_keys"] == ["k00"]
    names, cursor = [], ""
    for _ in range(3):
        page = account.call("GET", f"{namespace}/keys", params={"limit": 10, "prefix": "k", "cursor": cursor})
        names += [key["name"] for key in page.result]
        cursor = page.body["result_info"]["cursor"]
    assert (len(names), cursor) == (25, "")
    values = account.call("POST", f"{namespace}/bulk/get", {"keys": ["k01", "none"]}).result["values"]
    assert values == {"k01": "1", "none": None}
    assert account.call("POST", f"{namespace}/bulk/delete", ["bytes"]).result["unsuccessful_keys"] == ["bytes"]
    time.sleep(1.05)
    assert account.call("POST", f"{namespace}/bulk/delete", ["bytes"]).result["successful_key_count"] == 1
    assert account.call("GET", f"{namespace}/values/bytes").status == 404


WORKER = """
export default { async fetch(request, env) {
  const key = "a b/c?é", url = new URL(request.url);
  if (url.pathname === "/read") return new Response(await env.KV.get("stale"));
  if (url.pathname === "/twice") {
    await env.KV.put("twice", "1");
    return new Response(await env.KV.put("twice", "2").catch((error) => error.message));
  }
  await env.KV.put(key, "v", { metadata: { m: 1 }, expirationTtl: 60 });
  await env.KV.put("bytes", new Uint8Array([0, 255]));
  const listed = await env.KV.list({ prefix: "a", limit: 10 });
  const { value, metadata } = await env.KV.getWithMetadata(key, { cacheTtl: 30 });
  const short = await env.KV.get(key, { cacheTtl: 29 }).catch((error) => "refused");
  const many = Object.fromEntries(await env.KV.get([key, "none"]));
  const bytes = (await env.KV.get("bytes", "arrayBuffer")).byteLength;
  await env.KV.delete("gone");
  const key0 = { ...listed.keys[0] }; delete key0.expiration;
  return Response.json({ value, metadata, none: await env.KV.get("none"), key0, short, many, bytes });
} };
"""


def test_binding(account: EdgeAccount, namespace: str) -> None:
    """A Worker reads, writes, lists and deletes through its binding, with metadata and keys of any form."""
    binding = {"type": "kv_namespace", "name": "KV", "namespace_id": namespace.rpartition("/")[2]}
    url = account.publish(new_name("kv-worker"), WORKER, bindings=[binding])
    assert httpx.get(url).json() == {
        "value": "v",
        "metadata": {"m": 1},
        "none": None,
        "key0": {"name": "a b/c?é", "metadata": {"m": 1}},
        "short": "refused",
        "many": {"a b/c?é": "v", "none": None},
        "bytes": 2,
    }
    assert "429" in httpx.get(f"{url}/twice").text
    assert httpx.get(f"{url}/read").text == ""


def test_stale_reads(account: EdgeAccount, namespace: str) -> None:
    """With stale reads switched on, a Worker does not see a fresh write, not even where there was nothing."""
    binding = {"type": "kv_namespace", "name": "KV", "namespace_id": namespace.rpartition("/")[2]}
    url = account.publish(new_name("stale"), WORKER, bindings=[binding])
    account.edge.set_conditions(kv_stale_s=60)
    assert httpx.get(f"{url}/read").text == ""
    account.http.put(f"{namespace}/values/stale", content=b"fresh")
    assert httpx.get(f"{url}/read").text == ""
    account.edge.set_conditions(kv_stale_s=0)
    assert httpx.get(f"{url}/read").text == "fresh"


def test_slow_reads(account: EdgeAccount, namespace: str) -> None:
    """With slow reads switched on, each read of a binding takes so long; the REST API does not."""
    binding = {"type": "kv_namespace", "name": "KV", "namespace_id": namespace.rpartition("/")[2]}
    url = account.publish(new_name("slow"), WORKER, bindings=[binding])
    httpx.get(f"{url}/read")
    account.edge.set_conditions(kv_read_ms=400)
    began = time.monotonic()
    account.http.put(f"{namespace}/values/stale", content=b"slow")
    account.http.get(f"{namespace}/values/stale")
    assert time.monotonic() - began < 0.4
    assert httpx.get(f"{url}/read").text == "slow"
    assert time.monotonic() - began > 0.4
