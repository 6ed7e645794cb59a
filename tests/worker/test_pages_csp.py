"""Pages under a Content-Security-Policy: our one script may run, and nothing else that could not before."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest
from page_site import PageSite, run_page_site

VISITOR = "0123456789abcdef"
CSP, REPORTED = "content-security-policy", "content-security-policy-report-only"
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    with run_page_site(tmp_path_factory.mktemp("strict")) as site:
        yield site


@pytest.fixture
def path() -> str:
    return f"/{next(_NUMBERS)}"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("script-src 'self'", "script-src 'self' 'nonce-N'"),
        ("script-src 'none'", "script-src 'nonce-N'"),
        ("SCRIPT-SRC 'None'; img-src *", "script-src 'nonce-N'; img-src *"),
        ("default-src 'self'; img-src *", "default-src 'self'; img-src *; script-src 'self' 'nonce-N'"),
        ("default-src 'none'", "default-src 'none'; script-src 'nonce-N'"),
        ("script-src 'self'; script-src-elem 'self'", "script-src 'self'; script-src-elem 'self' 'nonce-N'"),
        ("script-src 'unsafe-inline'", "script-src 'unsafe-inline'"),
        ("default-src 'self' 'unsafe-inline'", "default-src 'self' 'unsafe-inline'"),
        ("script-src 'unsafe-inline' 'sha256-abc='", "script-src 'unsafe-inline' 'sha256-abc=' 'nonce-N'"),
        ("script-src 'unsafe-inline' 'strict-dynamic'", "script-src 'unsafe-inline' 'strict-dynamic' 'nonce-N'"),
        ("img-src *;; style-src 'self';", "img-src *; style-src 'self'"),
        ("script-src a.com; script-src b.com", "script-src a.com 'nonce-N'; script-src b.com"),
        ("script-src a, default-src b", "script-src a 'nonce-N', default-src b; script-src b 'nonce-N'"),
        ("script-src 'self'; style-src 'nonce-x'", "script-src 'self' 'nonce-N'; style-src 'nonce-x'"),
        ("script-src 'nonce-x', script-src 'self'", "script-src 'nonce-x' 'nonce-N', script-src 'self' 'nonce-N'"),
        ("script-src-elem 'self'; script-src 'nonce-x'", "script-src-elem 'self' 'nonce-N'; script-src 'nonce-x'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [CSP, REPORTED])
def test_a_nonce_is_added_where_it_is_needed(site: PageSite, path: str, name: str, policy: str, expected: str) -> None:
    """Every policy allows the script by a nonce, unless it allows all that is inline, and nothing that it did not."""
    site.origin.answer(path, **{name: policy})
    page = site.get(path, visitor=VISITOR)
    assert bool(page.nonce) == ("'nonce-N'" in expected)
    assert page.response.headers[name] == expected.replace("'nonce-N'", f"'nonce-{page.nonce}'")


def test_without_a_policy_there_is_no_nonce(site: PageSite, path: str) -> None:
    """And none is made up."""
    site.origin.answer(path)
    page = site.get(path, visitor=VISITOR)
    assert page.nonce == ""
    assert CSP not in page.response.headers


def test_a_nonce_of_the_page_is_used(site: PageSite, path: str) -> None:
    """What the origin made for this answer alone stays as it is, in the policy and in the page."""
    html = '<head><script nonce="b3JpZ2lu">1</script></head>'
    policy = "script-src 'nonce-b3JpZ2lu'; style-src 'unsafe-inline'"
    site.origin.answer(path, html, content_security_policy=policy)
    page = site.get(path, visitor=VISITOR)
    assert page.nonce == "b3JpZ2lu"
    assert page.response.headers[CSP] == policy
    assert page.html == html


def test_a_nonce_that_is_only_reported_is_not_used(site: PageSite, path: str) -> None:
    """What an enforced policy forbids stays forbidden, whatever another one is being tried for."""
    site.origin.answer(
        path,
        content_security_policy="script-src 'self'",
        content_security_policy_report_only="script-src 'nonce-tried'",
    )
    page = site.get(path, visitor=VISITOR)
    assert page.nonce != "tried"
    assert page.response.headers[CSP] == f"script-src 'self' 'nonce-{page.nonce}'"
    assert page.response.headers[REPORTED] == f"script-src 'nonce-tried' 'nonce-{page.nonce}'"


def test_a_nonce_that_all_policies_have_is_used(site: PageSite, path: str) -> None:
    """Those that do not ask for one have none to give."""
    policy = "script-src 'nonce-a' 'nonce-b', default-src 'nonce-b', img-src *, script-src 'unsafe-inline'"
    site.origin.answer(path, content_security_policy=policy)
    page = site.get(path, visitor=VISITOR)
    assert (page.nonce, page.response.headers[CSP]) == ("b", policy)


def test_nonces_of_a_kept_page_stay_apart(site: PageSite, path: str) -> None:
    """What may be a style may not become a script: each nonce has a fresh one of its own."""
    html = "<head></head><style nonce='c3R5bGU='></style><script nonce='c3R5bGU='>evil</script>"
    policy = "script-src 'self'; style-src 'nonce-c3R5bGU='"
    site.origin.answer(path, html, content_security_policy=policy, cache_control="s-maxage=60")
    page = site.get(path, visitor=VISITOR)
    script, style = re.findall(r"'nonce-(\w+)'", page.response.headers[CSP])
    assert page.response.headers[CSP] == f"script-src 'self' 'nonce-{script}'; style-src 'nonce-{style}'"
    assert (page.nonce, len({script, style, "c3R5bGU="})) == (script, 3)
    assert page.html == html.replace("c3R5bGU=", style)


@pytest.mark.parametrize("spelt", ["b2+k/w==", "b2&#43;k/w==", "b2&#x2B;k/w==", "b2+k/w&#x3D;&#x3D;"])
def test_nonces_as_templates_write_them(site: PageSite, path: str, spelt: str) -> None:
    """Escaped in an attribute, and in a script that hands it on."""
    html = f'<head></head><script nonce="{spelt}">__webpack_nonce__ = "b2+k/w=="</script><p>b2+k/w==</p>'
    policy = "script-src 'nonce-b2+k/w=='"
    site.origin.answer(path, html, content_security_policy=policy, cache_control="s-maxage=60")
    page = site.get(path, visitor=VISITOR)
    script = f'<script nonce="{page.nonce}">__webpack_nonce__ = "{page.nonce}"</script>'
    assert page.html == f"<head></head>{script}<p>b2+k/w==</p>"


def test_a_kept_page_has_a_fresh_nonce(site: PageSite, path: str) -> None:
    """An origin's nonce in a page for all is guessed once for all: each visitor gets another, in policy and page."""
    html = (
        '<head><style nonce="b2xk"></style></head><body><script nonce="b2xk">1</script><script nonce="bm8="></script>'
    )
    policy = "script-src 'nonce-b2xk' 'strict-dynamic'; style-src 'nonce-b2xk'"
    site.origin.answer(path, html, content_security_policy=policy, cache_control="s-maxage=60")
    pages = [site.get(path, visitor=VISITOR)]
    site.wait_until_kept(path)
    pages += [site.get(path, visitor=VISITOR) for _ in range(2)]
    assert [page.cache for page in pages] == ["miss", "hit", "hit"]
    assert len({page.nonce for page in pages} | {"b2xk"}) == 4
    for page in pages:
        assert page.response.headers[CSP] == policy.replace("b2xk", page.nonce)
        assert page.html == html.replace("b2xk", page.nonce)
        assert re.fullmatch(r"[A-Za-z0-9]{22}", page.nonce)


def test_a_policy_in_a_kept_page_follows(site: PageSite, path: str) -> None:
    """A page that says its policy twice, in a header and in itself, goes on running its scripts."""
    meta = "<META HTTP-EQUIV='Content-Security-Policy' content=\"script-src 'nonce-b2xk' 'nonce-bm8='\">"
    html = f'<head>{meta}<meta name="n" content="\'nonce-b2xk\'"><script nonce="b2xk">1</script></head>'
    site.origin.answer(path, html, content_security_policy="script-src 'nonce-b2xk'", cache_control="s-maxage=60")
    page = site.get(path, visitor=VISITOR)
    nonce = page.nonce
    assert f"script-src 'nonce-{nonce}' 'nonce-bm8='" in page.response.text
    assert f'<script nonce="{nonce}">1' in page.response.text
    assert "b2xk" not in page.response.text


def test_a_policy_in_the_page_alone(site: PageSite, path: str) -> None:
    """It begins to hold behind the bootstrap, which stands first; kept or not, nothing of it is changed."""
    html = '<head><meta http-equiv="content-security-policy" content="script-src \'nonce-b2xk\'"></head>'
    for headers in ({}, {"cache_control": "s-maxage=60"}):
        site.origin.answer(path, html, **headers)
        page = site.get(path, visitor=VISITOR)
        assert page.html == html
        assert page.response.text.startswith("<head><script>window.__FLAG_BOOTSTRAP__")
