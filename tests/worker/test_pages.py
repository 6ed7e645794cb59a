"""Pages in front of an origin: the right variant in the first bytes, cached by URL and cohort, owned by one visitor."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterator

import httpx
import pytest
from page_site import COOKIE, HTML, Answered, PageSite, run_page_site

SHARED = {"cache-control": "public, s-maxage=60"}
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    with run_page_site(tmp_path_factory.mktemp("pages")) as site:
        yield site


@pytest.fixture
def path(site: PageSite) -> str:
    """A path of the test's own, as what is kept comes late; nothing was asked yet."""
    site.origin.asked.clear()
    return f"/{next(_NUMBERS)}"


def test_the_head_begins_with_the_variants(site: PageSite, path: str) -> None:
    """A page holds what its visitor gets before anything of its own, and is otherwise the origin's."""
    site.origin.answer(path)
    page = site.get(path, visitor="0123456789abcdef")
    assert page.response.text.startswith("<!doctype html><html><head><script>window.__FLAG_BOOTSTRAP__=")
    assert page.variants["layout"] in {"wide", "narrow"}
    assert page.variants["swedish"] is None
    assert page.html == HTML


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<title>t</title><p>x", "[]<title>t</title><p>x"),
        ("<!doctype html><html><body><head></head>", "<!doctype html><html>[]<body><head></head>"),
        ("<html><!-- <head> --><head lang=x><title>", "<html><!-- <head> --><head lang=x>[]<title>"),
        ("<HTML><HEAD></HEAD></HTML>", "<HTML><HEAD>[]</HEAD></HTML>"),
        ("<!doctype html>text", "<!doctype html>[]text"),
        (
            "<!doctype html><template><script></script></template>",
            "<!doctype html>[]<template><script></script></template>",
        ),
        ("<!doctype html><svg><title>t</title></svg>", "<!doctype html>[]<svg><title>t</title></svg>"),
        ("<html a='>' b=\"<head>\"><head data-a = '</head>'>", "<html a='>' b=\"<head>\"><head data-a = '</head>'>[]"),
        ("\ufeff<!--><!-- --!><?xml?><html\n></head><header>", "\ufeff<!--><!-- --!><?xml?><html\n>[]</head><header>"),
        ("<p>a part of a page</p><script>b</script>", "<p>a part of a page</p><script>b</script>"),
        ("text alone", "text alone"),
        ("<!doctype html><!-- no end", "<!doctype html><!-- no end"),
        (f"<!--{'a' * 70_000}--><html><head>", f"<!--{'a' * 70_000}--><html><head>"),
    ],
)
def test_heads_that_are_not_written_down(site: PageSite, html: str, expected: str) -> None:
    """The bootstrap is the first thing that a parser puts into the head, once, and not in what is no document."""
    page = site.get(site.origin.answer("/heads", html))
    before, _, _ = expected.partition("[]")
    assert page.html == expected.replace("[]", "")
    assert page.response.text.startswith(before + ("<script>" if "[]" in expected else ""))
    assert page.response.text.count("__FLAG_BOOTSTRAP__") == expected.count("[]")


def test_a_visitor_is_a_cookie(site: PageSite, path: str) -> None:
    """A first visit sets the cookie, and the next one with it is the same visitor; no address plays a part."""
    site.origin.answer(path)
    first = site.get(path).response
    name, _, rest = first.headers["set-cookie"].partition("=")
    visitor, *attributes = rest.split("; ")
    assert name == COOKIE
    assert attributes == ["Path=/", "Max-Age=34560000", "HttpOnly", "SameSite=Lax"]
    assert site.get(path).response.headers["set-cookie"] != first.headers["set-cookie"]
    again = site.get(path, visitor=visitor)
    assert "set-cookie" not in again.response.headers
    site.apply(again, "layout")
    assert [exposure.unit for exposure in site.exposures(1)] == [visitor]


@pytest.mark.parametrize(
    "given", ["short", "%", "a" * 65, "0123456789abcdef<", "", '"0123456789abcdef"', "0123456789abcdef%zz"]
)
def test_a_cookie_that_is_no_id_is_replaced(site: PageSite, path: str, given: str) -> None:
    """What we would not have set is not a unit."""
    site.origin.answer(path)
    assert site.get(path, cookie=f"{COOKIE}={given}").response.headers["set-cookie"].startswith(f"{COOKIE}=")


def test_browsers_keep_nothing(site: PageSite, path: str) -> None:
    """Whatever the origin says of its page, the visitor's belongs to the visitor."""
    headers = {"etag": '"e"', "last_modified": "Thu, 01 Jan 2026 00:00:00 GMT", "cache_tag": "t", "age": "1"}
    site.origin.answer(path, cache_control="public, max-age=60", cdn_cache_control="max-age=30", **headers)
    for _ in range(2):
        response = site.get(path, visitor="0123456789abcdef").response
        assert response.headers["cache-control"] == "private, no-store"
        gone = {"etag", "last-modified", "cdn-cache-control", "age", "cache-tag", "cf-cache-status"}
        assert gone & response.headers.keys() == set()
        site.wait_until_kept(path)


def test_a_cohort_shares_a_page(site: PageSite, path: str) -> None:
    """The second visitor of a cohort gets the kept page, with a token and a cookie of his own."""
    wide, narrow = site.visitor_with("wide"), site.visitor_with("narrow")
    site.origin.answer(path, cache_control="s-maxage=60")
    site.origin.asked.clear()
    first = site.get(path, visitor=wide)
    site.wait_until_kept(path)
    second = next(page for page in (site.get(path) for _ in range(100)) if page.variants["layout"] == "wide")
    assert (first.cache, second.cache) == ("miss", "hit")
    assert first.html == second.html
    assert first.bootstrap["resolveToken"] != second.bootstrap["resolveToken"]
    assert first.bootstrap["resolveId"] != second.bootstrap["resolveId"]
    assert wide not in second.response.text
    assert "set-cookie" not in first.response.headers
    visitor = second.response.headers["set-cookie"].removeprefix(f"{COOKIE}=").split(";")[0]
    site.apply(second, "layout")
    assert [exposure.unit for exposure in site.exposures(1)] == [visitor]
    assert site.get(path, visitor=narrow).variants["layout"] == "narrow"


def test_the_origin_can_render_by_variant(site: PageSite, path: str) -> None:
    """It is told the variants, and what it makes of them reaches the visitors of that cohort alone."""
    site.origin.answer(path, "<head></head>wide", cache_control="s-maxage=60")
    wide, narrow = site.visitor_with("wide"), site.visitor_with("narrow")
    site.origin.asked.clear()
    site.get(path, visitor=wide)
    site.wait_until_kept(path)
    site.origin.answer(path, "<head></head>narrow", cache_control="s-maxage=60")
    assert site.get(path, visitor=narrow).html == "<head></head>narrow"
    assert site.get(path, visitor=wide).html == "<head></head>wide"
    told = [json.loads(asked.headers["x-flag-variants"]) for asked in site.origin.asked]
    assert told == [{"layout": "wide", "swedish": None}, {"layout": "narrow", "swedish": None}]


def test_every_flag_of_the_page_makes_the_cohort(site: PageSite, path: str) -> None:
    """Two visitors who differ in the second flag alone do not share."""
    visitor = site.visitor_with("wide")
    site.origin.answer(path, cache_control="s-maxage=60")
    site.get(path, visitor=visitor)
    site.wait_until_kept(path)
    swedish = site.get(path, visitor=visitor, country="SE")
    assert swedish.cache == "miss"
    assert swedish.variants["swedish"] == "on"


def test_rules_make_the_context(site: PageSite) -> None:
    """Attributes come from where the settings say, cookies decoded; the same page differs by them."""
    site.origin.answer("/themed")
    assert site.get("/themed", cookie="theme=dark%20mode").variants == {"themed": "on"}
    assert site.get("/themed", cookie="theme=light").variants == {"themed": None}
    assert site.get("/themed").variants == {"themed": None}


def test_exposures_come_of_use(site: PageSite, path: str) -> None:
    """A page is no exposure, from the origin or the cache, though FORCE_APPLY is on; its use is one, once."""
    site.origin.answer(path, cache_control="s-maxage=60")
    visitors = [site.visitor_with("wide"), "0123456789abcdef"]
    for visitor in visitors:
        site.get(path, visitor=visitor)
    site.wait_until_kept(path)
    page = site.get(path, visitor=visitors[0])
    assert page.cache == "hit"
    assert site.apply(page, "layout").status_code == 200
    found = site.exposures(1)
    assert [(each.flag, each.variant, each.unit) for each in found] == [
        ("flags/layout", "flags/layout/variants/wide", visitors[0])
    ]


@pytest.mark.parametrize("headers", [{"cache_control": "s-maxage=60"}, {"cdn_cache_control": "max-age=60"}, {}])
def test_vary_by_encoding_is_no_obstacle(site: PageSite, path: str, headers: dict[str, str]) -> None:
    """What differs in its encoding alone is kept."""
    site.origin.answer(path, **({"cache_control": "public, max-age=60"} | headers), vary="Accept-Encoding")
    site.get(path, visitor="0123456789abcdef")
    site.wait_until_kept(path)
    assert site.get(path, visitor="0123456789abcdef").cache == "hit"


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_pages_stream(site: PageSite, path: str, encoding: str) -> None:
    """What the origin has sent is shown while it goes on; once it is whole, the page is kept."""
    chunks: list[bytes | float] = [b"<html><head><title>t</title></head>", b"<body>first", 1.5, b"last"]
    headers = {"content-type": "text/html"} | ({"content-encoding": encoding} if encoding else {})
    site.origin.answers[path] = Answered(flushed(chunks) if encoding else chunks, headers | SHARED)
    text, is_shown = "", False
    with httpx.stream("GET", f"{site.url}{path}", cookies={COOKIE: "0123456789abcdef"}) as response:
        for part in response.iter_text():
            text += part
            is_shown |= "__FLAG_BOOTSTRAP__" in text and "first" in text and "last" not in text
    assert is_shown
    assert text.endswith("last")
    site.wait_until_kept(path)
    kept = site.get(path, visitor="0123456789abcdef")
    assert (kept.cache, kept.html) == ("hit", "<html><head><title>t</title></head><body>firstlast")


def flushed(chunks: list[bytes | float]) -> list[bytes | float]:
    """As an origin compresses that flushes after each."""
    packer = zlib.compressobj(wbits=31)
    packed = [
        packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH) if isinstance(chunk, bytes) else chunk
        for chunk in chunks
    ]
    return [*packed, packer.flush()]


def test_pages_of_an_origin_that_compresses(site: PageSite, path: str) -> None:
    """Kept or not, from the cache or not, they are whole."""
    for kind in ("private", "s-maxage=60"):
        site.origin.answer(path, content_encoding="gzip", cache_control=kind)
        assert site.get(path, visitor="0123456789abcdef").html == HTML
    site.wait_until_kept(path)
    kept = site.get(path, visitor="0123456789abcdef")
    assert (kept.cache, kept.html) == ("hit", HTML)


@pytest.mark.parametrize("policy", [{}, {"content-security-policy": "script-src 'nonce-b2xk'"}])
def test_pages_with_much_that_is_open(site: PageSite, path: str, policy: dict[str, str]) -> None:
    """Minified pages leave end tags out, and images stand in attributes: however much, the page is whole."""
    image = f"<img src='data:image/png;base64,{'A' * 4_000_000}'>"
    html = f"<!doctype html><html><head></head><body>{'<p>a' * 50_000}{image}<script nonce=b2xk>1</script>"
    site.origin.answer(path, html, cache_control="s-maxage=60", **policy)
    pages = [site.get(path, visitor="0123456789abcdef")]
    site.wait_until_kept(path)
    pages.append(site.get(path, visitor="0123456789abcdef"))
    assert [page.cache for page in pages] == ["miss", "hit"]
    for page in pages:
        assert page.html == html.replace("b2xk", page.nonce or "b2xk")
        assert bool(page.nonce) == bool(policy)


@pytest.mark.parametrize(("status", "location"), [(301, "/elsewhere"), (302, "/elsewhere"), (404, ""), (500, "")])
def test_answers_that_may_be_of_the_variants(site: PageSite, path: str, status: int, location: str) -> None:
    """The origin knew the variants: a redirect or an error page is the visitor's, with the next page's unit."""
    headers = {"location": location} if location else {}
    site.origin.answer(path, "<p>gone", status=status, cache_control="public, max-age=3600", **headers)
    response = site.send("GET", path)
    assert (response.status_code, response.text, response.headers.get("location", "")) == (status, "<p>gone", location)
    assert response.headers["cache-control"] == "private, no-store"
    unit = response.headers["set-cookie"].removeprefix(f"{COOKIE}=").split(";")[0]
    assert len(unit) == 24
    told = json.loads(site.origin.asked[-1].headers["x-flag-variants"])
    assert site.get(site.origin.answer("/elsewhere"), visitor=unit).variants == told


def test_paths_that_are_no_pages(site: PageSite) -> None:
    """What is no HTML, or a path without flags, is the origin's answer, headers and all."""
    site.origin.answers["/style.css"] = Answered([b"p{}"], {"content-type": "text/css", "etag": '"e"'} | SHARED)
    site.origin.answer("/plain/page")
    css = site.get("/style.css").response
    assert (css.text, css.headers["etag"], css.headers["cache-control"]) == ("p{}", '"e"', SHARED["cache-control"])
    assert site.get("/plain/page").response.text == HTML
    for response in (css, site.get("/plain/page").response):
        assert "set-cookie" not in response.headers


def test_other_methods_reach_the_origin_once(site: PageSite, path: str) -> None:
    """A form is sent on with its body, and its answer comes back as it is."""
    site.origin.answer(path, cache_control="s-maxage=60")
    response = site.send("POST", f"{path}?a=1", body=b"name=value", content_type="application/x-www-form-urlencoded")
    assert response.text == HTML
    assert [(asked.method, asked.path, asked.body) for asked in site.origin.asked] == [
        ("POST", f"{path}?a=1", b"name=value")
    ]
    assert site.send("OPTIONS", path).text == HTML
    assert site.send("HEAD", path).status_code == 200


def test_the_api_stays_where_it_is(site: PageSite, path: str) -> None:
    """Its paths are not the origin's, OPTIONS included."""
    assert site.get("/v1/health").response.json()["token_key"] == "present"
    assert site.send("OPTIONS", "/v1/flags:resolve").headers["access-control-allow-origin"] == "*"
    assert site.origin.asked == []


def test_timing_is_told(site: PageSite, path: str) -> None:
    """Server-Timing has the flags' time and what the cache did, beside what the origin tells."""
    site.origin.answer(path, server_timing="db;dur=5")
    timing = site.get(path).response.headers["server-timing"]
    assert timing.startswith("db;dur=5, flags;dur=")
    assert timing.endswith('page;desc="bypass"')
