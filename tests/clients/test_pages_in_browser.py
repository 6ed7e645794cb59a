"""Pages in a real browser under a strict policy: the variant is in the first frame, and its use is told once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Browser, Page
from builders import SECRET
from npm_clients import REPOSITORY
from page_site import COOKIE, Answered, PageSite, run_page_site

POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; report-uri /violations"
APP = f"""
import {{ Flags }} from "/flags.js";
const flags = new Flags({{ url: "", clientSecret: "{SECRET}" }});
document.querySelector("h1").textContent = `${{flags.value("layout.columns", 0)}} columns`;
window.flags = flags;
window.read = (key, fallback) => flags.value(key, fallback);
window.frames_ = () => new Promise((done) => {{
  const found = {{}};
  const observer = new PerformanceObserver((list) => {{
    for (const entry of list.getEntries()) found[entry.name] = entry.renderTime || entry.startTime;
    if ("first-contentful-paint" in found && "text-paint" in found) done(found);
  }});
  for (const type of ["paint", "element"]) observer.observe({{ type, buffered: true }});
}});
window.asked = () => performance.getEntriesByType("resource").map(({{ name }}) => new URL(name).pathname);
"""
HTML = """<!doctype html><html><head><title>shop</title><script type="module" blocking="render" src="/app.js"></script>
</head><body><p>shop</p><h1 elementtiming="headline"></h1></body></html>"""
"""The paragraph is painted as soon as it may be; the headline is in that frame only if the script was before it."""
SLOW_S = 0.3
"""How long the body of /slow.js takes."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    with run_page_site(tmp_path_factory.mktemp("browsed")) as site:
        scripts = {"/flags.js": (REPOSITORY / "worker/build/browser/flags.js").read_bytes(), "/app.js": APP.encode()}
        for path, content in scripts.items():
            site.origin.answers[path] = Answered([content], {"content-type": "text/javascript"})
        site.origin.answers["/slow.js"] = Answered([SLOW_S, APP.encode()], {"content-type": "text/javascript"})
        site.origin.answers["/violations"] = Answered([b"noted"])
        yield site


class Visitor:
    """A browser profile of its own, on one page."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.page = Page(browser, session)
        self.page.go(url)
        self.page.run("new Promise((done) => (function look() { window.flags ? done() : setTimeout(look, 10); })())")

    @property
    def unit(self) -> str:
        cookies = self._browser.call("Storage.getCookies", browserContextId=self._context)["cookies"]
        (unit,) = [cookie["value"] for cookie in cookies if cookie["name"] == COOKIE]
        return str(unit)

    def use_up(self, site: PageSite) -> None:
        """Take the exposure of what the page reads when it loads."""
        self.page.run("window.flags.flush()")
        assert [each.unit for each in site.exposures(1)] == [self.unit]

    @property
    def is_headline_in_first_frame(self) -> bool:
        """Whether the headline's text was painted with the first content of the page."""
        frames = self.page.run("window.frames_()")
        return bool(frames["text-paint"] == frames["first-contentful-paint"])

    @property
    def told(self) -> dict[str, str]:
        """The token and the nonce of its page."""
        script = "document.querySelector('head > script')"
        text = f"({{ token: window.__FLAG_BOOTSTRAP__.resolveToken, nonce: {script}.nonce }})"
        return dict(self.page.run(text))


def test_the_first_frame_has_the_variant(site: PageSite, browser: Browser) -> None:
    """From the origin and from the cache: no flag is asked for before it, and the policy stays whole."""
    site.origin.answer("/shop", HTML, content_security_policy=POLICY, cache_control="s-maxage=60")
    for number in range(6):
        visitor = Visitor(browser, f"{site.url}/shop")
        site.wait_until_kept("/shop")
        headline = visitor.page.run("document.querySelector('h1').textContent")
        assert headline in {"1 columns", "3 columns"}
        assert visitor.is_headline_in_first_frame, number
        assert not [path for path in visitor.page.run("window.asked()") if path.startswith("/v1/flags:resolve")]
        visitor.use_up(site)
    assert [asked.path for asked in site.origin.asked if asked.path == "/violations"] == []
    assert sum(asked.path == "/shop" for asked in site.origin.asked) == 2


@pytest.mark.parametrize("is_blocking", [True, False])
def test_a_late_variant_would_be_seen(site: PageSite, browser: Browser, *, is_blocking: bool) -> None:
    """A slow script is waited for; without `blocking` it is not, and the test above would have noticed."""
    html = HTML.replace("/app.js", "/slow.js")
    site.origin.answer("/slow", html if is_blocking else html.replace(' blocking="render"', ""))
    visitor = Visitor(browser, f"{site.url}/slow")
    assert visitor.is_headline_in_first_frame is is_blocking
    visitor.use_up(site)


def test_a_violation_would_be_seen(site: PageSite, browser: Browser) -> None:
    """An inline script of somebody else does not run, and is reported: the test above would have noticed."""
    html = HTML.replace("<title>", "<script>window.evil = 1</script><title>")
    site.origin.answer("/inline", html, content_security_policy=POLICY)
    visitor = Visitor(browser, f"{site.url}/inline")
    assert visitor.page.run("window.evil === undefined && window.__FLAG_BOOTSTRAP__ !== undefined") is True
    site.wait_until_asked("/violations")
    visitor.use_up(site)


def test_visitors_of_a_cohort_share_nothing_of_their_own(site: PageSite, browser: Browser) -> None:
    """Token, nonce and cookie differ, reading again tells nothing more, and each exposure has its visitor."""
    site.origin.answer("/shared", HTML, content_security_policy=POLICY, cache_control="s-maxage=60")
    visitors = [Visitor(browser, f"{site.url}/shared") for _ in range(4)]
    told = [visitor.told for visitor in visitors]
    for name in ("token", "nonce"):
        assert len({each[name] for each in told}) == len(visitors)
    assert len({visitor.unit for visitor in visitors}) == len(visitors)
    for visitor in visitors:
        visitor.page.run("window.read('layout.columns', 0) && window.flags.flush()")
        visitor.page.run("window.read('layout', {}) && window.flags.flush()")
    found = site.exposures(len(visitors))
    Visitor(browser, f"{site.url}/shared").use_up(site)
    assert sorted(each.unit for each in found) == sorted(visitor.unit for visitor in visitors)


def test_the_next_fetch_is_one(site: PageSite, browser: Browser) -> None:
    """The page's flags serve for the first fetch; one for another visitor asks the Worker."""
    site.origin.answer("/fetching", HTML, content_security_policy=POLICY)
    visitor = Visitor(browser, f"{site.url}/fetching")
    page = visitor.page
    counts = []
    for _ in range(2):
        page.run("window.flags.fetch({ targeting_key: 'u' })")
        counts.append(page.run("window.asked()").count("/v1/flags:resolve"))
    assert counts == [0, 1]
    page.run("window.flags.flush()")
    assert {each.unit for each in site.exposures(2)} == {visitor.unit, "u"}


def test_flags_that_the_page_lacks_are_fetched(site: PageSite, browser: Browser) -> None:
    """Who names a flag beyond the bootstrap gets it with the first fetch."""
    site.origin.answer("/lacking", HTML, content_security_policy=POLICY)
    page = Visitor(browser, f"{site.url}/lacking").page
    page.run(
        f"import('/flags.js').then(({{ Flags }}) => {{ window.flags = new Flags({{ url: '', clientSecret: '{SECRET}', "
        "flags: ['layout', 'themed'] }); return window.flags.fetch({ targeting_key: 'u', theme: 'dark mode' }); })"
    )
    assert page.run("window.flags.value('themed.dark', false)") is True
