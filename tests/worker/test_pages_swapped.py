"""Pages while a plan from KV takes the place of another: each page is of one plan, and the new one's soon."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from builders import assignment, flag, payload, rule, schema, state, variant
from page_site import HTML, Answered, PageSite, Shown, run_page_site

VISITOR = "0123456789abcdef"
SHARED = {"content-type": "text/html", "cache-control": "s-maxage=60"}
_NUMBERS = itertools.count()


def plan(layout: str, columns: int, swedish: str) -> bytes:
    """Everybody gets this layout, of so many columns, and this of the other flag."""
    return payload(
        state(
            flag(
                "layout",
                rule(assignments=[assignment(layout)]),
                variants=[variant(layout, {"columns": columns})],
                schema=schema({"columns": int}),
            ),
            flag(
                "swedish",
                rule(assignments=[assignment(swedish)]),
                variants=[variant(swedish, {"text": swedish})],
                schema=schema({"text": str}),
            ),
        )
    )


OLD, NEW = plan("wide", 3, "on"), plan("narrow", 1, "off")
OLD_PARTS = ({"layout": "wide", "swedish": "on"}, {"columns": 3}, {"text": "on"})
NEW_PARTS = ({"layout": "narrow", "swedish": "off"}, {"columns": 1}, {"text": "off"})


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    """Pages by the old plan, in front of a Worker that looks into KV all the time."""
    settings = {"PUBLISH": "kv", "STATE_MAC_KEY": base64.b64encode(bytes(32)).decode(), "RULES_TTL_MS": "100"}
    with run_page_site(tmp_path_factory.mktemp("swapped"), state=OLD, **settings) as site:
        site.edge.set_conditions(kv_write_limit=False)
        yield site


def parts(site: PageSite, page: Shown, path: str) -> tuple[Any, ...]:
    """What a page says of the plan: its variants, which the origin was told at `path` ("" for any), and values."""
    told = [json.loads(asked.headers["x-flag-variants"]) for asked in site.origin.asked if asked.path == path]
    assert told or not path
    assert all(each == page.variants for each in told), "the origin was told of another plan than the page"
    values = {each["flag"]: each["value"] for each in page.bootstrap["resolvedFlags"]}
    return page.variants, values["flags/layout"], values["flags/swedish"]


def await_swap(site: PageSite, columns: int) -> None:
    """Until pages are of the plan with so many columns."""
    site.origin.answer("/look")
    until = time.monotonic() + 10
    while parts(site, site.get("/look", visitor=VISITOR), "")[1] != {"columns": columns}:
        assert time.monotonic() < until, "pages stay as they were"
        time.sleep(0.02)


def test_each_page_is_of_one_plan(site: PageSite) -> None:
    """What the origin is told, variants and values are of the old plan or of the new one, and never old again."""

    def look(reader: int) -> list[tuple[Any, ...]]:
        seen = []
        until = time.monotonic() + 10
        while seen.count(NEW_PARTS) < 20:
            assert time.monotonic() < until
            path = f"/page?n={reader}-{next(_NUMBERS)}"
            seen.append(parts(site, site.get(path, visitor=VISITOR), path))
        return seen

    site.origin.answer("/page", cache_control="s-maxage=60")
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(look, reader) for reader in range(2)]
        assert site.publish(NEW) == "published"
        for reader in readers:
            seen = reader.result()
            assert [key for key, _ in itertools.groupby(seen)] == [OLD_PARTS, NEW_PARTS]


def test_a_swap_while_the_origin_thinks(site: PageSite) -> None:
    """The page ends with the plan that it began with, token included, and is kept for that plan's cohort alone."""
    goes_on = threading.Event()
    site.origin.answers["/slow"] = Answered([HTML.encode()], SHARED, thinks_until=goes_on)
    with ThreadPoolExecutor(1) as pool:
        thinking = pool.submit(site.get, "/slow", visitor=VISITOR)
        site.wait_until_asked("/slow")
        assert site.publish(NEW) == "published"
        await_swap(site, columns=1)
        goes_on.set()
        page = thinking.result()
    assert parts(site, page, "/slow") == OLD_PARTS
    assert site.apply(page, "layout").status_code == 200
    site.wait_until_kept("/slow")
    site.origin.asked.clear()
    site.origin.answers["/slow"] = Answered([b"<head></head>new"], SHARED)
    newer = site.get("/slow", visitor=VISITOR)
    assert (newer.cache, newer.html, parts(site, newer, "/slow")) == ("miss", "<head></head>new", NEW_PARTS)
    assert [each.variant for each in site.exposures(1)] == ["flags/layout/variants/wide"]


def test_the_token_of_an_old_page_applies(site: PageSite) -> None:
    """A page that was open when the plan changed tells what its visitor saw, by flags that may be gone by now."""
    site.origin.answer("/open")
    page = site.get("/open", visitor=VISITOR)
    only_layout = payload(state(flag("layout", rule(assignments=[assignment("off")]))))
    assert site.publish(only_layout) == "published"
    until = time.monotonic() + 10
    while site.get("/open", visitor=VISITOR).variants != {"layout": "off"}:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert site.apply(page, "layout", "swedish").status_code == 200
    found = sorted((each.variant, each.unit) for each in site.exposures(2))
    assert found == [("flags/layout/variants/wide", VISITOR), ("flags/swedish/variants/on", VISITOR)]


@pytest.mark.parametrize(("changed", "columns"), [(NEW, 1), (plan("wide", 4, "on"), 4)], ids=["variant", "value"])
def test_a_flip_needs_no_purge(site: PageSite, changed: bytes, columns: int) -> None:
    """Pages of the old cohort stay in every data centre's cache, and nobody gets them, though only a value changed."""
    site.origin.answer("/kept", "<head></head>old", cache_control="s-maxage=3600")
    site.get("/kept", visitor=VISITOR)
    site.wait_until_kept("/kept")
    site.origin.answer("/kept", "<head></head>new", cache_control="s-maxage=3600")
    assert site.get("/kept", visitor=VISITOR).html == "<head></head>old"
    site.edge.take_requests()
    assert site.publish(changed) == "published"
    await_swap(site, columns=columns)
    page = site.get("/kept", visitor=VISITOR)
    assert (page.html, page.cache) == ("<head></head>new", "miss")
    assert page.response.headers["cache-control"] == "private, no-store"
    assert not [call for call in site.edge.take_requests() if "purge" in call["path"] or call["method"] == "PURGE"]
    assert sum("/kept?" in url for url in site.edge.edge.cache.urls()) >= 1
