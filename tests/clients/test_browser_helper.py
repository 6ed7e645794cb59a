"""The browser helper in a real page: fetched once, read without waiting, told once when first used."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page
from builders import SECRET
from client_flags import Site, run_site
from npm_clients import REPOSITORY, bundle
from pages import serve_pages

BUILT = REPOSITORY / "worker/build/browser"
FOLDER = Path(__file__).parent
SIZE_MAX_BYTES = 2_000
LONG_ENOUGH_S = 5
Exposures = list[tuple[str, str]]
Wait = Callable[[int], Exposures]


@pytest.fixture(scope="module")
def helped_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The Worker with `client_flags`, where a resolve alone is no exposure."""
    directory = tmp_path_factory.mktemp("edge")
    with run_site(directory, FORCE_APPLY="false", LOG_LINGER_MS="0") as site:
        yield site


@pytest.fixture
def page(browser: Browser, helped_site: Site) -> Iterator[Page]:
    """A page with the helper; what went before is off the queue."""
    files = {
        "/index.html": (FOLDER / "helper_page.html").read_bytes(),
        "/next.html": b"another page",
        "/flags.js": (BUILT / "flags.js").read_bytes(),
        "/page.js": bundle("page.mjs"),
        "/openfeature.html": b'<script type="module" src="/page.js"></script>',
    }
    with serve_pages(files) as pages:
        helped_site.take_exposures()
        yield browser.open_page(f"{pages}/index.html")


@pytest.fixture
def exposures(helped_site: Site) -> Wait:
    """Waits for so many exposures: the flag and the unit of each. More than those are given if they are there."""

    def wait(count: int) -> Exposures:
        found: Exposures = []
        until = time.monotonic() + LONG_ENOUGH_S
        while len(found) < count and time.monotonic() < until:
            found += [(exposure.flag, exposure.unit) for exposure in helped_site.take_exposures()]
            time.sleep(0.02)
        return found

    return wait


def start(page: Page, site: Site, unit: str, **attributes: Any) -> None:
    page.call("start", site.url, SECRET, {"targeting_key": unit, **attributes})


def details(page: Page, key: str, *, fallback: Any = False) -> Any:
    return page.call("details", key, fallback)


def use_as_last(page: Page, site: Site) -> tuple[str, str]:
    """An exposure after which no other can be on its way."""
    page.run("window.flags.flush()")
    start(page, site, "last")
    details(page, "f.on")
    page.run("window.flags.flush()")
    return ("flags/f", "last")


def exposures_until(last: tuple[str, str], exposures: Wait) -> Exposures:
    """The exposures before the last one."""
    found: Exposures = []
    while last not in found:
        more = exposures(1)
        assert more, f"{last} did not come"
        found += more
    return [each for each in found if each != last]


def test_it_is_small() -> None:
    """Minified and compressed, as a page loads it; the provider brings nothing of OpenFeature's SDK along."""
    assert len(gzip.compress((BUILT / "flags.js").read_bytes())) < SIZE_MAX_BYTES
    assert len(gzip.compress((BUILT / "openfeature.js").read_bytes())) < SIZE_MAX_BYTES


def test_first_use_is_the_exposure(page: Page, helped_site: Site, exposures: Wait) -> None:
    """A visitor whose flags were only fetched has none; who reads two fields of a flag has one."""
    start(page, helped_site, "fetched")
    start(page, helped_site, "reader")
    assert details(page, "f.on") == {
        "value": True,
        "reason": "TARGETING_MATCH",
        "variant": "flags/f/variants/on",
    }
    assert details(page, "flags/f.nested.deep", fallback="")["value"] == "yes"
    assert exposures(1) == [("flags/f", "reader")]
    assert details(page, "f", fallback={})["value"]["count"] == 5
    assert exposures_until(use_as_last(page, helped_site), exposures) == []


def test_what_nobody_saw_is_no_exposure(page: Page, helped_site: Site, exposures: Wait) -> None:
    """Mistakes and visitors who are not targeted get the default, and are told apart."""
    page.run("import('/flags.js').then(({ Flags }) => { window.flags = new Flags({ url: '', clientSecret: '' }); })")
    assert details(page, "f.on")["errorCode"] == "PROVIDER_NOT_READY"
    start(page, helped_site, "mistaken")
    mistakes = {"f.name": "TYPE_MISMATCH", "f.nothing": "FLAG_NOT_FOUND", "f.tags.length": "FLAG_NOT_FOUND"}
    for key, code in mistakes.items():
        assert details(page, key) == {"value": False, "reason": "ERROR", "errorCode": code}
    assert details(page, "swedish.on") == {"value": False, "reason": "DEFAULT"}
    assert exposures_until(use_as_last(page, helped_site), exposures) == []


def test_targeting_key_error(page: Page, helped_site: Site) -> None:
    """A key that cannot be bucketed is an error, not a default that looks like a decision."""
    start(page, helped_site, "u", visitor_id=1.5)
    assert details(page, "keyed", fallback={})["errorCode"] == "INVALID_CONTEXT"


def test_use_just_before_leaving(page: Page, helped_site: Site, exposures: Wait) -> None:
    """A page that goes tells what it used."""
    start(page, helped_site, "leaver")
    page.run("window.details('f.on', false) && void location.assign('/next.html')")
    assert exposures(1) == [("flags/f", "leaver")]


def test_apply_is_tried_again(page: Page, helped_site: Site, exposures: Wait) -> None:
    """What could not be told is told later, once."""
    start(page, helped_site, "offline")
    page.run("window.failNext()")
    details(page, "f.on")
    page.run("window.flags.flush()")
    assert exposures_until(use_as_last(page, helped_site), exposures) == [("flags/f", "offline")]


def test_the_last_fetch_counts(page: Page, helped_site: Site) -> None:
    """The answer for a visitor of before, overtaken by the one for the visitor of now, changes nothing."""
    start(page, helped_site, "before", country="NO")
    page.run("window.holdNext()")
    contexts = [{"targeting_key": "u", "country": country} for country in ("NO", "SE")]
    page.run(f"Promise.all({contexts}.map((context) => window.flags.fetch(context))).then(() => null)")
    assert details(page, "swedish.on")["value"] is True


@pytest.mark.parametrize("name", ["f", "flags/f"])
def test_only_the_flags_that_are_asked_for(page: Page, helped_site: Site, name: str) -> None:
    """By either of their names; the others are not found."""
    page.call("start", helped_site.url, SECRET, {"targeting_key": "u"}, [name])
    assert details(page, "f.on")["value"] is True
    assert details(page, "swedish.on")["errorCode"] == "FLAG_NOT_FOUND"


def test_fetch_rejects_what_is_refused(page: Page, helped_site: Site) -> None:
    """A wrong secret is told to who fetches."""
    refused = f"window.start({helped_site.url!r}, 'wrong', {{}}).catch((error) => error.message)"
    assert page.run(refused) == "flags: HTTP 401"


def test_an_address_may_end_with_a_slash(page: Page, helped_site: Site) -> None:
    """People copy it so out of their browser."""
    page.call("start", f"{helped_site.url}/", SECRET, {"targeting_key": "u"})
    assert details(page, "f.on")["value"] is True


def test_requests_need_no_leave(page: Page) -> None:
    """A browser sends them to another origin at once: it asks first for what a form could not send."""
    seen: list[str] = []
    with serve_pages({}, seen) as elsewhere:
        page.run(f"window.start({elsewhere!r}, 'secret', {{}}).catch(() => null)")
    assert seen == ["POST"]


def test_nothing_to_tell_where_every_resolve_applies(page: Page, site: Site) -> None:
    """With FORCE_APPLY the fetch was the exposure: there is no token, and no apply."""
    start(page, site, "forced")
    assert details(page, "f.on")["value"] is True
    page.run("window.flags.flush()")
    requests = page.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [url.rsplit(":", 1)[1] for url in requests if "/v1/" in url] == ["resolve"]


def test_provider_applies_on_first_evaluation(page: Page, helped_site: Site, exposures: Wait) -> None:
    """OpenFeature's web SDK over the helper: what is evaluated is the exposure, a context that changes is none."""
    page.go(page.run("location.origin") + "/openfeature.html")
    calls = [("boolean", "swedish.on", False, unit, {"country": "SE"}) for unit in ("first", "second")]
    results = page.call("evaluate", "flagedge", helped_site.url, SECRET, calls)
    assert [(result["value"], result["error"]) for result in results] == [(True, None)] * 2
    assert sorted(exposures(2)) == [("flags/swedish", "first"), ("flags/swedish", "second")]
