"""What a page's rules believe: attributes that the origin signed, claims that Cloudflare Access did, nothing else."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from page_site import Answered, PageSite, run_origin, run_page_site

from flagedge.page_attributes import COOKIE, sign_attributes

VISITOR = "0123456789abcdef"
KEYS = {"old": bytes(range(32)), "new": bytes(range(1, 33))}
ATTRIBUTES = {"theme": "dark mode"}
HOST = "127.0.0.1"
TEAM_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGERS_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CERTS = "/cdn-cgi/access/certs"


def text64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def json64(value: Any) -> str:
    return text64(json.dumps(value).encode())


def jwks(key: rsa.RSAPrivateKey, kid: str) -> bytes:
    """The team's keys as Access serves them, among some that nobody can use."""
    numbers = key.public_key().public_numbers()
    parts = {name: text64(number.to_bytes(size)) for name, number, size in (("n", numbers.n, 256), ("e", numbers.e, 3))}
    others = [{"kid": "ec", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, {"kty": "RSA", **parts}, {}]
    usable = {"kid": kid, "kty": "RSA", "alg": "RS256", "use": "sig", **parts}
    return json.dumps({"keys": [*others, usable]}).encode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    """Pages whose theme the origin signs, and whose country is the office that Access knows."""
    keys = json.dumps({key_id: base64.b64encode(key).decode() for key_id, key in KEYS.items()})
    rules = json.dumps({"theme": "signed:theme", "country": "access:office"})
    with run_origin() as team:
        team.answers[CERTS] = Answered([jwks(TEAM_KEY, "k1")], {"content-type": "application/json"})
        settings = {"PAGE_ATTRIBUTE_KEYS": keys, "PAGE_CONTEXT": rules}
        settings |= {"PAGE_ACCESS_TEAM": team.url, "PAGE_ACCESS_AUDIENCE": "app"}
        with run_page_site(tmp_path_factory.mktemp("attested"), **settings) as site:
            site.team = team
            yield site


def theme(site: PageSite, cookie: str) -> str | None:
    """The variant of a visitor with this cookie of attributes."""
    site.origin.answer("/themed")
    return site.get("/themed", visitor=VISITOR, cookie=f"{COOKIE}={cookie}").variants["themed"]


def signed(attributes: dict[str, Any] = ATTRIBUTES, *, key_id: str = "new", host: str = HOST, **options: Any) -> str:
    return sign_attributes(attributes, key_id=key_id, key=KEYS[key_id], host=host, **options)


@pytest.mark.parametrize("key_id", ["old", "new"])
def test_signed_attributes_are_believed(site: PageSite, key_id: str) -> None:
    """With each of the keys, so that one can follow the other."""
    assert theme(site, signed(key_id=key_id)) == "on"


def test_attributes_that_are_not_to_be_believed(site: PageSite) -> None:
    """Expired, another host's, of another key, too long-lived, changed, cut off: the page comes without them."""
    good = signed()
    version, key_id, payload, mac = good.split(".")
    forged = json64({"exp": int(time.time()) + 60, "host": HOST, "attributes": ATTRIBUTES})
    bad = {
        "nothing": "",
        "expired": signed(now_s=time.time() - 301),
        "of another host": signed(host="shop.example.com"),
        "of an unknown key": sign_attributes(ATTRIBUTES, key_id="none", key=KEYS["new"], host=HOST),
        "of a key by another's id": sign_attributes(ATTRIBUTES, key_id="old", key=KEYS["new"], host=HOST),
        "of a key of the prototype": sign_attributes(ATTRIBUTES, key_id="constructor", key=KEYS["new"], host=HOST),
        "for too long": signed(now_s=time.time() + 3_600, lifetime_s=86_400),
        "another payload": f"{version}.{key_id}.{forged}.{mac}",
        "another version": f"v2.{key_id}.{payload}.{mac}",
        "no signature": f"{version}.{key_id}.{payload}.",
        "a short signature": good[:-1],
        "no base64": f"{version}.{key_id}.{payload}.{'%' * 43}",
        "huge": f"{version}.{key_id}.{'A' * 5_000}.{mac}",
    }
    assert {name: theme(site, cookie) for name, cookie in bad.items()} == dict.fromkeys(bad)
    assert theme(site, good) == "on"


def test_a_rule_reads_what_it_names_alone(site: PageSite) -> None:
    """A struct is no attribute, and one that is not named goes nowhere."""
    assert theme(site, signed({"theme": {"a": 1}, "targeting_key": "forged"})) is None


@pytest.mark.parametrize(
    "change", [{"key": b"short"}, {"key_id": "a.b"}, {"key_id": ""}, {"lifetime_s": 0}, {"lifetime_s": 86_401}]
)
def test_the_signer_refuses_what_would_not_be_believed(change: dict[str, Any]) -> None:
    """At once, where the mistake is."""
    with pytest.raises(ValueError, match=r"key|lifetime"):
        sign_attributes(ATTRIBUTES, **({"key_id": "k", "key": KEYS["new"], "host": HOST} | change))
    with pytest.raises(ValueError, match="too many"):
        sign_attributes({"a": "b" * 4_000}, key_id="k", key=KEYS["new"], host=HOST)


def test_the_signer_needs_nothing() -> None:
    """An origin that imports it gets no other package along."""
    script = "import sys, flagedge.page_attributes as _; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"httpx", "duckdb", "google", "cryptography", "structlog"} & set(done.stdout.split())


def access_token(key: rsa.RSAPrivateKey = TEAM_KEY, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
    now_s = int(time.time())
    told = {"aud": ["app"], "exp": now_s + 60, "nbf": now_s - 60, "email": "a@example.com", "office": "SE"} | claims
    content = f"{json64({'alg': 'RS256', 'kid': 'k1'} | (header or {}))}.{json64(told)}"
    return f"{content}.{text64(key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def office(site: PageSite, token: str, **headers: str) -> str | None:
    """The variant of a visitor with this token of Access."""
    sent = headers or {"cf_access_jwt_assertion": token}
    site.origin.answer("/office")
    return site.get("/office", visitor=VISITOR, **sent).variants["swedish"]


def wait_for_keys(site: PageSite) -> None:
    """The first token makes an isolate fetch the keys, behind its answer."""
    until = time.monotonic() + 5
    while office(site, access_token(iss=site.team.url)) is None:
        assert time.monotonic() < until, "the keys did not come"


def test_claims_of_access_are_believed(site: PageSite) -> None:
    """By header or cookie, with keys that are fetched once, behind an answer."""
    wait_for_keys(site)
    token = access_token(iss=site.team.url)
    assert office(site, token) == "on"
    assert office(site, "", cookie=f"CF_Authorization={token}") == "on"
    assert office(site, access_token(iss=site.team.url, aud="app")) == "on"
    assert [asked.path for asked in site.team.asked] == [CERTS]


def test_claims_that_are_not_to_be_believed(site: PageSite) -> None:
    """Another's key, application, team or time, another algorithm, or none; nor does one of them fetch keys again."""
    wait_for_keys(site)
    iss = site.team.url
    good = access_token(iss=iss)
    header, payload, signature = good.split(".")
    others = json64({"iss": iss, "aud": "app", "exp": time.time() + 60, "office": "SE", "x": 1})
    unsigned = json64({"alg": "none", "kid": "k1"})
    bad = {
        "another's key": access_token(STRANGERS_KEY, iss=iss),
        "an unknown key": access_token(STRANGERS_KEY, iss=iss, header={"kid": "k2"}),
        "another application": access_token(iss=iss, aud=["other"]),
        "another team": access_token(iss="https://other.cloudflareaccess.com"),
        "expired": access_token(iss=iss, exp=int(time.time()) - 1),
        "not yet": access_token(iss=iss, nbf=int(time.time()) + 120),
        "without an end": access_token(iss=iss, exp=None),
        "HMAC": access_token(iss=iss, header={"alg": "HS256"}),
        "unsigned": f"{unsigned}.{payload}.",
        "unsigned with a signature": f"{unsigned}.{payload}.{signature}",
        "other claims": f"{header}.{others}.{signature}",
        "no token": "a.b",
        "huge": f"{header}.{'A' * 9_000}.{signature}",
    }
    assert {name: office(site, token) for name, token in bad.items()} == dict.fromkeys(bad)
    assert office(site, "", x_staff="true", cf_access_authenticated_user_email="a@example.com") is None
    assert [asked.path for asked in site.team.asked] == [CERTS]
