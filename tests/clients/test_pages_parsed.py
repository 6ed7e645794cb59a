"""Where a head begins is for a browser's parser to say: the bootstrap is first in it, and the page is else the same."""

from __future__ import annotations

import random

import pytest
from browser import run_browser
from page_site import run_page_site

PIECES = (
    *("<!doctype html>", "<html>", "<html lang='a>b'>", "<HTML\n>", "<head>", "<head a = '</head>'>", "</head>"),
    *("<title>t</title>", "<!-- <head> -->", "<!-->", "<!-- --!>", "<?x?>", "</>", "</3>", " ", "\n", "text", "</p>"),
    *("<svg><title>s</title></svg>", "<template><script>1</script></template>", "<noscript><link></noscript>"),
    *("<meta charset=utf-8>", "<br>", "</br>", "<header>", "<html a=>", "<script>1</script>", "</html>"),
    *("<body>", "<p>", "<"),
)  # fmt: skip
PAGES = 400
PARSE = """
((pages) => pages.map(([before, after]) => {
  const parse = text => new DOMParser().parseFromString(text, "text/html");
  const page = parse(after), first = page.head.firstElementChild;
  const isFirst = first?.textContent.startsWith("window.__FLAG_BOOTSTRAP__=") ?? false;
  first?.remove();
  return [isFirst, page.documentElement.outerHTML === parse(before).documentElement.outerHTML];
}))
"""


def test_a_parser_finds_it_first(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever stands before a head, written down or not."""
    draw = random.Random()
    pages = [
        "<!doctype html>" * draw.randrange(2) + "".join(draw.choices(PIECES, k=draw.randint(1, 6)))
        for _ in range(PAGES)
    ]
    with run_page_site(tmp_path_factory.mktemp("parsed")) as site:
        changed = [site.get(site.origin.answer("/x", page), visitor="0123456789abcdef").response.text for page in pages]
    pairs = [pair for pair in zip(pages, changed, strict=True) if "__FLAG_BOOTSTRAP__" in pair[1]]
    assert len(pairs) > PAGES / 2
    with run_browser() as browser:
        parsed = browser.open_page("about:blank").call(PARSE, pairs)
    wrong = [page for (page, _), found in zip(pairs, parsed, strict=True) if found != [True, True]]
    assert wrong == []
