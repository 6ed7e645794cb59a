"""Pages under attack: nobody gets another's, nobody chooses what others get, and what fails leaves the origin's."""

from __future__ import annotations

import itertools
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from builders import assignment, flag, payload, rule, segment, state, variant
from page_site import COOKIE, HTML, Answered, PageSite, run_page_site

VISITOR = "0123456789abcdef"
SHARED = "public, s-maxage=60"
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    with run_page_site(tmp_path_factory.mktemp("attacked")) as site:
        yield site


@pytest.fixture
def path(site: PageSite) -> str:
    """A path of the test's own."""
    site.origin.asked.clear()
    return f"/{next(_NUMBERS)}"


def is_kept(site: PageSite, path: str) -> bool:
    """Whether a page is kept, once everything that was to be kept before it is."""
    last = site.origin.answer(f"/last-{next(_NUMBERS)}", cache_control=SHARED)
    site.get(last, visitor=VISITOR)
    site.wait_until_kept(last)
    host = site.url.removeprefix("http://")
    return any(url.startswith(f"{host}{path}?") for url in site.edge.edge.cache.urls())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cache_control": "private, s-maxage=60"},
        {"cache_control": 'private="x", s-maxage=60'},
        {"cache_control": "no-store, s-maxage=60"},
        {"cache_control": "No-Cache, public, max-age=60"},
        {"cache_control": "max-age=60"},
        {"cache_control": "public"},
        {"cache_control": "s-maxage=0, public, max-age=60"},
        {"cache_control": "s-maxage=60, s-maxage=0"},
        {"cache_control": "s-maxage=-60"},
        {"cache_control": "s-maxage=sixty"},
        {"cache_control": SHARED, "set_cookie": "session=1"},
        {"cache_control": SHARED, "vary": "Cookie"},
        {"cache_control": SHARED, "vary": "Accept-Encoding, User-Agent"},
        {"cache_control": SHARED, "vary": "*"},
        {"cache_control": SHARED, "age": "60"},
        {"cache_control": "private", "cdn_cache_control": "max-age=60"},
        {"cache_control": SHARED, "cdn_cache_control": "no-store"},
        {"cache_control": SHARED, "cloudflare_cdn_cache_control": "max-age=0"},
        {"expires": "Thu, 01 Jan 2099 00:00:00 GMT"},
    ],
)
def test_pages_that_are_not_for_all_are_not_kept(site: PageSite, path: str, headers: dict[str, str]) -> None:
    """Only what its origin gives to all for some time is; the next visitor of the cohort asks the origin again."""
    site.origin.answer(path, **headers)
    assert site.get(path, visitor=VISITOR).cache == "bypass"
    assert not is_kept(site, path)
    site.origin.answer(path, "<head></head>another's", **headers)
    assert site.get(path, visitor=VISITOR).html == "<head></head>another's"


@pytest.mark.parametrize("status", [203, 206, 301, 404, 410, 500])
def test_another_status_is_not_kept(site: PageSite, path: str, status: int) -> None:
    """Least of all an error that says it may be."""
    site.origin.answer(path, status=status, cache_control=SHARED, location="/")
    assert site.get(path, visitor=VISITOR).response.status_code == status
    assert not is_kept(site, path)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_neither_fill_nor_use_the_cache(site: PageSite, path: str, method: str) -> None:
    """A form's answer is not the page, and the page is not the form's answer."""
    site.origin.answer(path, "<head></head>posted", cache_control=SHARED)
    site.send(method, path, visitor=VISITOR, body=b"x" if method == "POST" else b"")
    assert not is_kept(site, path)
    site.origin.answer(path, "<head></head>page", cache_control=SHARED)
    site.get(path, visitor=VISITOR)
    site.wait_until_kept(path)
    before = len(site.origin.asked)
    site.send(method, path, visitor=VISITOR)
    assert site.origin.asked[before].method == method


@pytest.mark.parametrize("headers", [{"authorization": "Basic eDp5"}, {"range": "bytes=0-9"}])
def test_requests_that_are_one_visitors(site: PageSite, path: str, headers: dict[str, str]) -> None:
    """With Authorization or Range neither is kept what comes, nor comes what is kept."""
    site.origin.answer(path, "<head></head>mine", cache_control=SHARED)
    site.send("GET", path, visitor=VISITOR, **headers)
    assert not is_kept(site, path)
    site.origin.answer(path, "<head></head>all's", cache_control=SHARED)
    site.get(path, visitor=VISITOR)
    site.wait_until_kept(path)
    site.origin.answer(path, "<head></head>mine", cache_control=SHARED)
    assert "mine" in site.send("GET", path, visitor=VISITOR, **headers).text
    assert site.get(path, visitor=VISITOR).html == "<head></head>all's"


def test_a_conditional_request_gets_a_page(site: PageSite, path: str) -> None:
    """The origin's "not modified" would leave the visitor without a bootstrap, so it is not asked for."""
    site.origin.answer(path, etag='"e"')
    page = site.get(path, visitor=VISITOR, if_none_match='"e"', if_modified_since="Thu, 01 Jan 2099 00:00:00 GMT")
    assert page.variants["layout"]
    assert not {"if-none-match", "if-modified-since"} & site.origin.asked[0].headers.keys()


def test_the_parameter_of_the_key_is_no_way_into_it(site: PageSite, path: str) -> None:
    """Who writes a cohort into the URL gets a page of that URL, and fills no other's."""
    site.origin.answer(path, "<head></head>true", cache_control=SHARED)
    site.get(path, visitor=VISITOR)
    site.wait_until_kept(path)
    (key,) = [url for url in site.edge.edge.cache.urls() if f"{path}?" in url]
    cohort = key.rpartition("=")[2]
    site.origin.answer(path, "<head></head>forged", cache_control=SHARED)
    assert site.get(f"{path}?__flag_cohort={cohort}", visitor="another-visitor-").html == "<head></head>forged"
    assert is_kept(site, path)
    assert site.get(path, visitor=VISITOR).html == "<head></head>true"


def test_the_cohort_tells_nothing(site: PageSite, path: str) -> None:
    """A key holds neither visitor nor flag nor variant."""
    site.origin.answer(path, cache_control=SHARED)
    site.get(path, visitor=VISITOR)
    site.wait_until_kept(path)
    (key,) = [url for url in site.edge.edge.cache.urls() if f"{path}?" in url]
    assert re.fullmatch(r"127\.0\.0\.1:\d+/\d+\?__flag_cohort=[0-9a-f]{32}", key)


@pytest.mark.parametrize(
    "name",
    [
        *("x_flag_variants", "x_original_url", "x_original_uri", "x_original_method", "x_rewrite_url", "x_url_scheme"),
        *("x_http_method", "x_http_method_override", "x_method_override", "x_host", "forwarded", "front_end_https"),
        *("x_forwarded_host", "x_forwarded_proto", "x_forwarded_port", "x_forwarded_prefix", "x_forwarded_server"),
    ],
)
def test_no_visitor_chooses_what_the_origin_makes_for_all(site: PageSite, path: str, name: str) -> None:
    """Headers that frameworks believe do not reach it as the visitor wrote them, on pages and elsewhere."""
    site.origin.answer(path, cache_control=SHARED)
    for method in ("GET", "POST"):
        site.send(method, path, visitor=VISITOR, **{name: '{"layout":"evil"}'})
    assert [asked.headers.get(name.replace("_", "-")) for asked in site.origin.asked] != []
    assert not any("evil" in asked.headers.get(name.replace("_", "-"), "") for asked in site.origin.asked)


def test_what_is_kept_holds_nothing_of_a_visitor(site: PageSite, path: str) -> None:
    """Neither token, nor nonce, nor cookie is in the cache, only what the origin sent."""
    site.origin.answer(path, cache_control=SHARED, content_security_policy="script-src 'nonce-abc'")
    page = site.get(path)
    site.wait_until_kept(path)
    (kept,) = [entry for entry in site.edge.edge.cache._entries.values() if f"{path}?" in entry.url]
    assert kept.body == HTML.encode()
    visitor = page.response.headers["set-cookie"].removeprefix(f"{COOKIE}=").split(";")[0]
    for own in (page.nonce, visitor, page.bootstrap["resolveToken"], page.bootstrap["resolveId"]):
        assert own
        assert own not in repr(kept)


def test_nothing_breaks_out_of_the_script(site: PageSite, path: str) -> None:
    """A value may hold whatever ends scripts, begins comments or breaks lines: it stays a text."""
    site.origin.answer(path)
    page = site.get(path, visitor=VISITOR, country="SE")
    script = page.response.text.partition("__FLAG_BOOTSTRAP__=")[2].partition("</script>")[0]
    assert "<" not in script
    assert script.isascii()
    values = {resolved["flag"]: resolved.get("value") for resolved in page.bootstrap["resolvedFlags"]}
    assert values["flags/swedish"] == {"text": "</script><!--\u2028<script>"}


@pytest.mark.parametrize(
    "cookie",
    [
        "theme=%",
        "theme=%zz",
        "theme=%ff%fe",
        "theme=%00",
        "=; ;;; theme",
        "theme",
        "__proto__=1; constructor=2",
        f"theme={'%41' * 2_000}",
        "theme=dark%20mode; theme=%",
    ],
)
def test_cookies_that_are_broken(site: PageSite, cookie: str) -> None:
    """They are read as far as they can be, and the page comes."""
    site.origin.answer("/themed")
    page = site.get("/themed", visitor=VISITOR, cookie=cookie)
    assert page.variants == {"themed": "on" if cookie.startswith("theme=dark") else None}


@pytest.mark.parametrize("size", [1_001, 60_000])
def test_headers_that_are_huge(site: PageSite, path: str, size: int) -> None:
    """They reach the origin, and no rule."""
    site.origin.answer(path)
    assert site.get(path, visitor=VISITOR, user_agent="a" * size).variants["layout"]
    assert len(site.origin.asked[0].headers["user-agent"]) == size


def test_a_huge_cookie_hides_nobody(site: PageSite, path: str) -> None:
    """However much stands before it, the visitor's cookie is found, and the origin gets all of it."""
    site.origin.answer(path)
    ballast = "; ".join(f"c{number}={'%' * 100}" for number in range(300))
    response = site.get(path, visitor=VISITOR, cookie=ballast).response
    assert "set-cookie" not in response.headers
    assert site.origin.asked[0].headers["cookie"] == f"{ballast}; {COOKIE}={VISITOR}"


def test_cookies_of_the_origin_reach_the_visitor(site: PageSite, path: str) -> None:
    """Beside ours, on a page that is then nobody else's."""
    site.origin.answer(path, cache_control=SHARED, set_cookie="session=1; HttpOnly")
    page = site.get(path)
    own, ours = sorted(page.response.headers.get_list("set-cookie"), key=lambda each: each.startswith(COOKIE))
    assert (own, ours.partition("=")[0]) == ("session=1; HttpOnly", COOKIE)
    assert not is_kept(site, path)


def ask_raw(site: PageSite, request: bytes) -> bytes:
    """The whole answer to a request as it is written; it closes the connection."""
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("raw_path", ["/%", "/%zz", "/%2e%2e/themed", "//themed", "/\xff", "/a\\b", "/themed/../x"])
def test_paths_that_are_odd(site: PageSite, raw_path: str) -> None:
    """They are the origin's to answer, and no other host's."""
    answer = ask_raw(site, f"GET {raw_path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
    assert answer[:10] in {b"HTTP/1.1 2", b"HTTP/1.1 4"}


@pytest.mark.parametrize("charset", ["utf-16", "UTF-16LE", "'utf-16be'", "iso-2022-jp", "hz-gb-2312"])
def test_pages_that_cannot_be_read_come_as_they_are(site: PageSite, path: str, charset: str) -> None:
    """A charset in which ASCII is something else leaves the origin's page, and keeps it for nobody."""
    kind = f"text/html; charset={charset}"
    site.origin.answers[path] = Answered([HTML.encode()], {"content-type": kind, "cache-control": SHARED})
    response = site.get(path, visitor=VISITOR).response
    assert (response.content, response.headers["cache-control"]) == (HTML.encode(), "private, no-store")
    assert not is_kept(site, path)


@pytest.mark.parametrize("charset", ["utf-8", "shift_jis", "windows-1251", "koi8-r", "gbk", "nonsense"])
def test_bytes_of_a_page_are_its_own(site: PageSite, path: str, charset: str) -> None:
    """Whatever they mean, they pass as they are, with fresh nonces between them."""
    rest = bytes(range(0x80, 0x100)) + b" nonce-b2x <p nonce='b2xk'>" + bytes(range(0x80, 0x100))
    headers = {"content-type": f"text/html; charset={charset}", "content-security-policy": "script-src 'nonce-b2xk'"}
    chunks = [b"<html><head>", *(bytes([byte]) for byte in rest)]
    site.origin.answers[path] = Answered(chunks, headers | {"cache-control": SHARED})
    content = site.send("GET", path, visitor=VISITOR).content
    head, _, body = content.partition(b"</script>")
    nonce = head.partition(b'nonce="')[2].partition(b'"')[0]
    assert body == rest.replace(b"b2xk", nonce)


def test_a_page_in_utf_16_without_a_word_of_it(site: PageSite, path: str) -> None:
    """Its first bytes say so."""
    content = HTML.encode("utf-16")
    site.origin.answers[path] = Answered([content], {"content-type": "text/html"})
    assert site.send("GET", path, visitor=VISITOR).content == content


def test_an_origin_that_sets_our_cookie(site: PageSite, path: str) -> None:
    """A backend may say who the visitor is: ours does not take its place."""
    site.origin.answer(path, set_cookie=f"{COOKIE}=backends-own-visitor; Path=/")
    assert site.send("GET", path).headers.get_list("set-cookie") == [f"{COOKIE}=backends-own-visitor; Path=/"]


def test_an_encoding_that_is_not_known(site: PageSite, path: str) -> None:
    """Bytes that cannot be decoded are passed on."""
    site.origin.answers[path] = Answered([b"\x01\x02"], {"content-type": "text/html", "content-encoding": "zstd"})
    with httpx.stream("GET", f"{site.url}{path}") as response:
        assert b"".join(response.iter_raw()) == b"\x01\x02"


def get_with_body(site: PageSite, path: str, framing: str) -> bytes:
    """What comes of a GET with these headers, and a body behind them."""
    head = f"GET {path} HTTP/1.1\r\nHost: {site.url.removeprefix('http://')}\r\nCookie: {COOKIE}={VISITOR}\r\n"
    return ask_raw(site, f"{head}Connection: close\r\n{framing}".encode())


def test_a_page_that_is_asked_for_with_a_body(site: PageSite, path: str) -> None:
    """GET may have one, which is no part of a key: what the origin makes of it is for nobody else."""
    framing = "Content-Length: 4\r\n\r\nevil"
    site.origin.answer(path, "<head></head>evil", cache_control=SHARED)
    assert b"window.__FLAG_BOOTSTRAP__" in get_with_body(site, path, framing)
    assert [asked.body for asked in site.origin.asked] == [b"evil"]
    assert not is_kept(site, path)
    site.origin.answer(path, "<head></head>all's", cache_control=SHARED)
    site.get(path, visitor=VISITOR)
    site.wait_until_kept(path)
    site.origin.answer(path, "<head></head>mine", cache_control=SHARED)
    assert b"mine" in get_with_body(site, path, framing)
    assert site.get(path, visitor=VISITOR).html == "<head></head>all's"


def test_a_body_in_chunks_is_left_behind(site: PageSite, path: str) -> None:
    """The runtime takes it off a GET, so that no page can be made of it."""
    site.origin.answer(path, cache_control=SHARED)
    get_with_body(site, path, "Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n")
    [asked] = site.origin.asked
    assert (asked.body, {"transfer-encoding", "content-length"} & asked.headers.keys()) == (b"", set())


def test_a_visitor_who_leaves(site: PageSite, path: str) -> None:
    """Whoever breaks off while the page streams leaves no half of it for others."""
    chunks = [b"<html><head></head><body>first", 1.0, b"last</body></html>"]
    site.origin.answers[path] = Answered(chunks, {"content-type": "text/html", "cache-control": SHARED})
    with httpx.stream("GET", f"{site.url}{path}", cookies={COOKIE: VISITOR}) as response:
        next(response.iter_raw())
    time.sleep(1.5)
    page = site.get(path, visitor=VISITOR)
    assert page.html.endswith("last</body></html>")


def test_an_answer_that_breaks_off_is_not_kept(site: PageSite, path: str) -> None:
    """Half a page is nobody's page but the visitor's whom it happened to."""
    site.origin.answers[path] = Answered(
        [b"<html><head></head><body>half", 0.1, None], {"content-type": "text/html", "cache-control": SHARED}
    )
    with pytest.raises(httpx.RemoteProtocolError):
        site.get(path, visitor=VISITOR)
    assert not is_kept(site, path)


def test_the_cache_fails(site: PageSite, path: str) -> None:
    """A cache that does not answer is one that has nothing."""
    site.origin.answer(path, cache_control=SHARED)
    site.edge.set_faults({"match": ".*/cache/.*", "times": 4, "kind": "status", "status": 500})
    assert site.get(path, visitor=VISITOR).variants["layout"]
    assert site.get(path, visitor=VISITOR).html == HTML
    site.edge.reset()


@pytest.fixture(scope="module")
def undecided_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    """Flags cannot be decided here: the client is none of the state's."""
    with run_page_site(tmp_path_factory.mktemp("undecided"), PAGE_CLIENT="clients/nobody") as site:
        yield site


def test_without_decisions_the_page_is_the_origins(undecided_site: PageSite) -> None:
    """Byte for byte, headers too, and nothing is kept or set."""
    path = undecided_site.origin.answer("/x", cache_control=SHARED, etag='"e"')
    response = undecided_site.get(path).response
    assert (response.text, response.headers["etag"], response.headers["cache-control"]) == (HTML, '"e"', SHARED)
    assert "set-cookie" not in response.headers
    assert undecided_site.edge.edge.cache.urls() == []
    assert '"event":"page.failed"' in undecided_site.log()


def test_without_decisions_forms_arrive(undecided_site: PageSite) -> None:
    """A body is read once, by the origin: no failure of ours can have used it up."""
    undecided_site.origin.asked.clear()
    path = undecided_site.origin.answer("/form")
    body = b"a" * 200_000
    assert undecided_site.send("POST", path, body=body).text == HTML
    assert [asked.body for asked in undecided_site.origin.asked] == [body]


@pytest.fixture
def lonely_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    """An origin where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with run_page_site(tmp_path_factory.mktemp("lonely"), PAGE_ORIGIN=url) as site:
        yield site


def test_the_origin_is_down(lonely_site: PageSite) -> None:
    """That is said with a status that nobody keeps; the API answers all the same."""
    for method in ("GET", "POST"):
        response = lonely_site.send(method, "/x")
        assert (response.status_code, response.headers["cache-control"]) == (502, "no-store")
        assert json.loads(response.text)["error"]["code"] == "origin_unreachable"
    assert lonely_site.get("/v1/health").response.status_code == 200


def test_too_many_cohorts_are_told(tmp_path: Path) -> None:
    """Once for a path, when it has more than 32: a page that differs for everybody is never a hit."""
    names = [f"f{number}" for number in range(6)]
    halves = [assignment("on", (0, 50)), assignment("off", (50, 100))]
    flags = [
        flag(
            name,
            rule(assignments=halves, segment=f"s{name}"),
            variants=[variant("on", {"a": 1}), variant("off", {"a": 2})],
        )
        for name in names
    ]
    segments = [segment(f"s{name}") for name in names]
    many = payload(state(*flags, segments=segments))
    with run_page_site(tmp_path, state=many, PAGE_FLAGS=json.dumps({"/*": names})) as site:
        site.origin.answer("/x")
        for number in range(150):
            site.get("/x", visitor=f"visitor-{number:08}")
        logged = [json.loads(line) for line in site.log().splitlines() if '"page.cohorts_many"' in line]
    assert [(each["path"], each["more_than"]) for each in logged] == [("/*", 32)]
