"""The Confidence CDN: states by the digest of the client secret, with strict conditional requests."""

from __future__ import annotations

import hashlib

import httpx
import pytest
from edge_account import EdgeAccount, new_name

from local_edge.cdn import matches


def test_published_states(account: EdgeAccount) -> None:
    """A state is found under the SHA-256 of its client secret, the encrypted one beside it; nothing else is."""
    secret = new_name("secret")
    url = f"{account.edge.cdn_url}/{hashlib.sha256(secret.encode()).hexdigest()}"
    assert httpx.get(url).status_code == 404
    account.edge.publish_state(secret, b"plain")
    account.edge.publish_state(secret, b"sealed", encrypted=True)
    assert httpx.get(url).content == b"plain"
    assert httpx.get(f"{url}.enc").content == b"sealed"
    assert httpx.get(f"{account.edge.cdn_url}/..%2Faccount.sqlite").status_code == 404


def test_conditional_get(account: EdgeAccount) -> None:
    """The ETag as it was given answers 304 until the state changes; without its quotes it matches nothing."""
    secret = new_name("secret")
    account.edge.publish_state(secret, b"one")
    url = f"{account.edge.cdn_url}/{hashlib.sha256(secret.encode()).hexdigest()}"
    etag = httpx.get(url).headers["etag"]
    fresh = httpx.get(url, headers={"if-none-match": etag})
    assert (fresh.status_code, fresh.content, fresh.headers["etag"]) == (304, b"", etag)
    assert httpx.get(url, headers={"if-none-match": etag.strip('"')}).status_code == 200
    account.edge.publish_state(secret, b"two")
    assert httpx.get(url, headers={"if-none-match": etag}).status_code == 200


@pytest.mark.parametrize("header", ['"a"', 'W/"a"', '"b", "a"', "*"])
def test_entity_tags_that_match(header: str) -> None:
    """A tag matches quoted, weak or strong, in a list too, and as a star."""
    assert matches(header, '"a"')


@pytest.mark.parametrize("header", ["", "a", '"b"', '"a', 'a"a"', "W/a", '"b" "a"'])
def test_entity_tags_that_do_not(header: str) -> None:
    """What is no list of quoted tags, or names another one, matches nothing."""
    assert not matches(header, '"a"')
