"""`sync-job purge`: the API's forms, within its limits, and nothing at all when something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import shop
from operators import operator_environ
from sync_command import Sync

from local_edge.server import LocalEdge

ZONE = "0123456789abcdef0123456789abcdef"
KEPT = b"HTTP/1.1 200 OK\r\nCache-Control: s-maxage=60\r\nCache-Tag: %s\r\n\r\n"


class Operator:
    """Settings for an account with a cache."""

    def __init__(self, edge: LocalEdge) -> None:
        self.edge = edge
        self.environ = operator_environ(edge, shop.WEB_SECRET) | {"CLOUDFLARE_ZONE_ID": ZONE, "LEASE": "off"}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEdge]:
    with LocalEdge(dir=tmp_path_factory.mktemp("edge")) as edge:
        yield edge


@pytest.fixture
def sync(edge: LocalEdge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Sync:
    cache = edge.edge.cache
    cache.purge({"purge_everything": True})
    for name in ("a", "b"):
        cache._put("s", f"shop.example.com/{name}?__flag_cohort=0", KEPT % name.encode())
    edge.take_requests()
    return Sync(Operator(edge), monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--prefix", "shop.example.com/a"], ["b"]),
        (["--prefix", "https://shop.example.com/b"], ["a"]),
        (["--prefix", "shop.example.com"], []),
        (["--tag", "a"], ["b"]),
        (["--tag", "a", "--prefix", "shop.example.com/b"], []),
        (["--everything"], []),
    ],
)
def test_purge(sync: Sync, arguments: list[str], left: list[str]) -> None:
    """What is named goes, cohorts and all; the zone is that of the settings."""
    assert sync.command("purge", *arguments)[:2] == (0, "purged\n")
    urls = sync.operator.edge.edge.cache.urls()
    assert urls == [f"shop.example.com/{name}?__flag_cohort=0" for name in left]
    assert {each["path"] for each in sync.operator.edge.take_requests()} == {f"/client/v4/zones/{ZONE}/purge_cache"}


def test_more_than_a_request_takes(sync: Sync) -> None:
    """A hundred items a request."""
    tags = [argument for number in range(201) for argument in ("--tag", f"t{number}")]
    assert sync.command("purge", *tags)[0] == 0
    assert [each["status"] for each in sync.operator.edge.take_requests()] == [200] * 3


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["--prefix", "shop.example.com/?a"], {}, "--prefix shop.example.com/?a is not"),
        (["--prefix", "/a"], {}, "--prefix /a is not"),
        (["--prefix", "https:"], {}, "--prefix https: is not"),
        (["--prefix", "https://"], {}, "--prefix https:// is not"),
        (["--prefix", "HTTPS://shop.example.com/a"], {}, "--prefix HTTPS://shop.example.com/a is not"),
        (["--prefix", "ftp://shop.example.com/a"], {}, "--prefix ftp://shop.example.com/a is not"),
        (["--prefix", "*.example.com/a"], {}, "--prefix *.example.com/a is not"),
        (["--prefix", "shop.example.com/*"], {}, "--prefix shop.example.com/* is not"),
        (["--prefix", "Shop.example.com/a"], {}, "--prefix Shop.example.com/a is not"),
        (["--prefix", "me@shop.example.com"], {}, "--prefix me@shop.example.com is not"),
        (["--prefix", "shop"], {}, "--prefix shop is not"),
        (["--prefix", "shop.example.com/a", "--prefix", "https:"], {}, "--prefix https: is not"),
        (["--tag", "a,b"], {}, "--tag a,b is not"),
        (["--everything"], {"CLOUDFLARE_ZONE_ID": ""}, "CLOUDFLARE_ZONE_ID is not set"),
    ],
)
def test_what_is_wrong(sync: Sync, arguments: list[str], settings: dict[str, str], said: str) -> None:
    """Exit code 2, the reason, and nothing is asked."""
    code, _, error = sync.command("purge", *arguments, **settings)
    assert (code, said in error) == (2, True)
    assert sync.operator.edge.take_requests() == []


def test_without_anything_to_purge(sync: Sync) -> None:
    """The whole cache is purged by name only."""
    with pytest.raises(SystemExit) as ended:
        sync.command("purge")
    assert ended.value.code == 2


def test_a_limit_is_waited_for(sync: Sync) -> None:
    """What the API refuses as too much is asked again."""
    sync.operator.edge.set_faults({"match": ".*purge_cache", "times": 1, "kind": "status", "status": 429})
    assert sync.command("purge", "--everything")[0] == 0
    assert sync.operator.edge.edge.cache.urls() == []
    sync.operator.edge.reset()


def test_a_token_that_may_not(sync: Sync) -> None:
    """The error names the permission."""
    sync.operator.edge.set_faults({"match": ".*purge_cache", "times": 1, "kind": "status", "status": 403})
    code, _, error = sync.command("purge", "--everything")
    assert (code, "Cache Purge" in error) == (1, True)
    sync.operator.edge.reset()
