"""The cache behind the Cache API: keeps what the real one keeps, for as long, and is purged as a zone is."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from edge_account import EdgeAccount

from local_edge.cache import Cache
from local_edge.envelope import RefusalError
from local_edge.server import LocalEdge

# Does what the body says: [method, URL, headers of a response, its body], and tells what came of it.
WORKER = """export default { async fetch(request) {
  const [method, url, headers, body] = await request.json();
  if (method === "put") return Response.json(await caches.default.put(url, new Response(body, { headers })) ?? null);
  if (method === "delete") return Response.json(await caches.default.delete(url));
  const found = await caches.default.match(url);
  return Response.json(found === undefined ? null : { body: await found.text(), age: found.headers.get("age"),
    type: found.headers.get("content-type") });
} };"""
URL = "https://shop.example.com/a?b=1"
KEPT = {"cache-control": "s-maxage=60", "content-type": "text/html", "cache-tag": "red, Green"}


class Caller:
    """A Worker that uses its cache as it is told."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, method: str, url: str = URL, headers: dict[str, str] = KEPT, body: str = "é") -> Any:
        answer = httpx.post(self._url, content=json.dumps([method, url, headers, body]))
        return answer.raise_for_status().json()


@pytest.fixture(scope="module")
def caller(edge: LocalEdge) -> Caller:
    account = EdgeAccount(edge)
    url = account.publish("cached", WORKER)
    account.http.close()
    return Caller(url)


@pytest.fixture(autouse=True)
def emptied(edge: LocalEdge) -> None:
    edge.edge.cache.purge({"purge_everything": True})


def test_match_after_put(caller: Caller) -> None:
    """What was put is matched whole, by its URL alone, until it is deleted."""
    assert caller("match") is None
    caller("put")
    assert caller("match") == {"body": "é", "age": "0", "type": "text/html"}
    assert caller("match", "https://shop.example.com/a?b=2") is None
    assert [caller("delete"), caller("delete"), caller("match")] == [True, False, None]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cache-control": "max-age=0"},
        {"cache-control": "private, max-age=60"},
        {"cache-control": "no-store, s-maxage=60"},
        {"cache-control": "s-maxage=60", "set-cookie": "a=b"},
    ],
)
def test_what_is_not_kept(caller: Caller, headers: dict[str, str]) -> None:
    """The real one ignores such a put without a word."""
    caller("put", headers=headers)
    assert caller("match") is None


def test_scripts_do_not_share(caller: Caller, edge: LocalEdge) -> None:
    """Another script's cache is another one."""
    account = EdgeAccount(edge)
    other = Caller(account.publish("cached-too", WORKER))
    account.http.close()
    caller("put")
    assert other("match") is None


@pytest.mark.parametrize(
    ("purge", "left"),
    [
        ({"purge_everything": True}, 0),
        ({"files": [URL]}, 1),
        ({"prefixes": ["shop.example.com/a"]}, 1),
        ({"prefixes": ["shop.example.com/"]}, 0),
        ({"hosts": ["shop.example.com"]}, 0),
        ({"hosts": ["example.com"]}, 2),
        ({"tags": ["green"]}, 1),
        ({"tags": ["gre"]}, 2),
    ],
)
def test_purge(caller: Caller, edge: LocalEdge, purge: dict[str, Any], left: int) -> None:
    """Each form removes what it names."""
    caller("put")
    caller("put", "https://shop.example.com/b", {"cache-control": "s-maxage=60"})
    account = EdgeAccount(edge)
    assert account.http.post(f"{edge.api_url}/zones/z/purge_cache", json=purge).json()["result"] == {"id": "z"}
    account.http.close()
    assert len(edge.edge.cache.urls()) == left


@pytest.mark.parametrize(
    "purge",
    [
        {},
        {"everything": True},
        {"purge_everything": False},
        {"tags": []},
        {"tags": "green"},
        {"tags": ["a"], "hosts": ["b"]},
        {"tags": ["a"] * 101},
        {"prefixes": ["https://shop.example.com/"]},
    ],
)
def test_purges_that_are_refused(purge: dict[str, Any]) -> None:
    """Exactly one form, with at most a hundred items."""
    with pytest.raises(RefusalError):
        Cache().purge(purge)


def test_freshness_ends() -> None:
    """What is older than it may be is not matched."""
    at_s = [0.0]
    cache = Cache(now=lambda: at_s[0])
    cache._put("s", "host/", b"HTTP/1.1 200 OK\r\nCache-Control: s-maxage=10\r\n\r\nbody")
    assert cache._match("s", "host/").status_code == 200
    at_s[0] = 10.0
    assert cache._match("s", "host/").status_code == 504


def test_half_a_put_is_none() -> None:
    """A response that is shorter than it says is not kept."""
    cache = Cache()
    cache._put("s", "host/", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nCache-Control: s-maxage=10\r\n\r\nbody")
    assert cache.urls() == []
