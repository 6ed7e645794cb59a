"""The page of `log-consumer report` in a real browser: it asks nobody, complains of nothing, and is seen and used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page, run_browser
from reported import EXPERIMENTS, make_database, write

CONTRAST_MIN = 4.5
"""Of text, by WCAG 2.2, level AA."""
LOOKS = """
(() => {
  const at = name => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(--${name})`;
    const channels = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(Number);
    probe.remove();
    return channels;
  };
  return Object.fromEntries(
    ["paper", "ink", "soft", "link", "ok", "warning", "alarm", "unknown"].map(name => [name, at(name)])
  );
})()
"""
PROBLEMS = """
(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const ids = all("[id]").map(element => element.id);
  const levels = all("h1, h2, h3").map(element => Number(element.tagName[1]));
  return {
    "id twice": ids.filter((id, place) => ids.indexOf(id) !== place),
    "link to nowhere": all("a").filter(a => !document.querySelector(a.getAttribute("href"))).map(a => a.outerHTML),
    "chart without a name": all("figure > svg").filter(svg => !(svg.getAttribute("aria-label")?.length > 20)).length,
    "table without a caption": all("table").filter(table => !table.caption?.textContent).length,
    "heading without scope": all("th:not([scope])").length,
    "button without a name": all("button").filter(b => !b.getAttribute("aria-label")).length,
    "region that keys do not reach": all(".scroll:not([tabindex])").length,
    "level left out": levels.filter((level, place) => level > (levels[place - 1] ?? 0) + 1),
    "label by nothing": all("[aria-labelledby]")
      .filter(each => !document.getElementById(each.getAttribute("aria-labelledby"))).length,
  };
})()
"""
UNDRAWN = """
[...document.querySelectorAll("figure > svg")].filter(svg => {
  const box = svg.getBoundingClientRect();
  const marks = [...svg.querySelectorAll("path, line")].filter(mark => {
    const {fill, stroke} = getComputedStyle(mark);
    return (fill !== "none" || stroke !== "none") && mark.getBoundingClientRect().width > 0;
  });
  return box.width < 250 || box.height < 60 || marks.length < 3 || svg.textContent.includes("NaN");
}).length
"""


class Watched:
    """A tab of a browser that remembers what its pages complain of, and whom they ask."""

    def __init__(self, browser: Browser) -> None:
        self.complaints: list[Any] = []
        self.requests: list[str] = []
        self._browser = browser
        self._read = browser._read
        browser._read = self._note  # type: ignore[method-assign]
        self.page: Page = browser.open_page("about:blank")
        for domain in ("Log", "Network", "Runtime", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        return self._browser.call(method, self.page._session, **parameters)

    def show(self, page: Path, *, scheme: str = "light", width: int = 1280, media: str = "") -> None:
        """Load the page as it is for such a reader, and forget what was before."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.complaints.clear()
        self.requests.clear()
        self.page.go(page.as_uri())
        # What is on its way is told before the answer.
        self.page.run("new Promise(done => setTimeout(() => done(null), 100))")

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, text=text)

    def _note(self) -> dict[str, Any]:
        message = self._read()
        match message.get("method"):
            case "Log.entryAdded" | "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.complaints.append(message["params"])
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        return message


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    make_database(str(folder / "exposures.duckdb"), *EXPERIMENTS)
    return write(str(folder / "exposures.duckdb"), folder / "report.html").page


@pytest.fixture(scope="module")
def tab() -> Iterator[Watched]:
    with run_browser() as browser:
        yield Watched(browser)


def test_the_watch_sees_what_it_is_to_see(tab: Watched, tmp_path: Path) -> None:
    """A page that asks and complains is found out; else the tests below would say nothing."""
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('no'); nothing.here</script>")
    tab.show(bad)
    assert "http://127.0.0.1:9/x.png" in tab.requests
    assert len(tab.complaints) >= 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_needs_nobody_and_is_all_there(tab: Watched, page: Path, scheme: str, width: int) -> None:
    """No request but for the page itself, no complaint, every chart drawn, nothing wider than the screen."""
    tab.show(page, scheme=scheme, width=width)
    assert [url for url in tab.requests if not url.startswith("data:")] == [page.as_uri()]
    assert tab.complaints == []
    assert tab.page.run("document.querySelectorAll('figure > svg').length") == 4 * len(EXPERIMENTS) + 1
    assert tab.page.run(UNDRAWN) == 0
    assert tab.page.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(tab: Watched, page: Path, scheme: str) -> None:
    """Text has the contrast of WCAG AA in both schemes, which are different."""
    tab.show(page, scheme=scheme)
    looks = tab.page.run(LOOKS)
    paper = _luminance(looks.pop("paper"))
    assert (paper > 0.5) == (scheme == "light")
    for name, colour in looks.items():
        lights = sorted([paper, _luminance(colour)])
        assert (lights[1] + 0.05) / (lights[0] + 0.05) >= CONTRAST_MIN, name


def test_it_says_what_it_shows(tab: Watched, page: Path) -> None:
    """To those who do not see it: names, captions, levels, and every status as a word."""
    tab.show(page)
    found = tab.page.run(PROBLEMS)
    assert {problem: where for problem, where in found.items() if where} == {}
    assert set(tab.page.run("[...document.querySelectorAll('.badge')].map(each => each.lastChild.textContent)")) <= {
        "ok", "warning", "alarm", "unknown",
    }  # fmt: skip


def test_names_of_others_do_nothing(tab: Watched, page: Path) -> None:
    """The script of the page is the only one, and nothing of a name has run."""
    tab.show(page)
    assert tab.page.run("typeof hacked") == "undefined"
    assert tab.page.run("document.scripts.length") == 1
    assert tab.page.run("document.images.length") == 0
    assert tab.page.run("document.querySelectorAll('.overview a bdi').length") == len(EXPERIMENTS)


def test_it_is_used_by_keys(tab: Watched, page: Path) -> None:
    """The first stop leads to the overview; SQL is opened and copied by Enter."""
    tab.show(page)
    tab.press("Tab", 9)
    assert tab.page.run("document.activeElement.textContent") == "To the overview"
    tab.page.run("document.querySelector('details.query summary').focus()")
    tab.press("Enter", 13, "\r")
    tab.press("Tab", 9)
    tab.press("Tab", 9)
    assert tab.page.run("document.activeElement.className") == "copy"
    tab.press("Enter", 13, "\r")
    said = "new Promise(done => setTimeout(() => done(document.getElementById('status').textContent), 200))"
    assert tab.page.run(said) in {"Copied: the SQL", "Selected: the SQL"}


def test_it_is_printed_light_and_without_sql(tab: Watched, page: Path) -> None:
    """Also by who reads it in the dark."""
    tab.show(page, scheme="dark", media="print")
    assert _luminance(tab.page.run(LOOKS)["paper"]) > 0.5
    shown = "[...document.querySelectorAll('details.query')].filter(each => each.checkVisibility()).length"
    assert tab.page.run(shown) == 0
    assert tab.page.run(UNDRAWN) == 0


def _luminance(channels: list[float]) -> float:
    """WCAG's relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (each / 255 for each in channels)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
