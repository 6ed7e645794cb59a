"""Settings of pages: checked before anything is deployed, and bound as the Worker reads them."""

from __future__ import annotations

import json

import pytest

from flagedge.errors import SettingsError
from flagedge.settings import Secret
from sync_job.assemble import worker_bindings
from sync_job.settings import read_worker_settings


def bound(**environ: str) -> dict[str, object]:
    """The bindings of pages by name."""
    bindings = worker_bindings(read_worker_settings(environ))
    return {each["name"]: each.get("json", each.get("text")) for each in bindings if each["name"].startswith("PAGE_")}


def test_without_paths_there_are_no_pages() -> None:
    """Whatever else is said of them."""
    assert bound(PAGE_ORIGIN="https://shop.example.com") == {}


def test_what_the_worker_is_told() -> None:
    """Flags by their short names, and only what was said."""
    told = bound(
        PAGE_FLAGS='{"/": ["flags/checkout"], "/shop/*": ["checkout", "banner"]}',
        PAGE_CONTEXT='{"country": "cf:country", "app.theme": "cookie:theme"}',
        PAGE_ORIGIN="https://shop.example.com/",
    )
    assert told == {
        "PAGE_FLAGS": {"/": ["checkout"], "/shop/*": ["checkout", "banner"]},
        "PAGE_CONTEXT": {"country": "cf:country", "app.theme": "cookie:theme"},
        "PAGE_ORIGIN": "https://shop.example.com",
        "PAGE_COOKIE": "flag_visitor",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PAGE_FLAGS", "checkout"),
        ("PAGE_FLAGS", '["checkout"]'),
        ("PAGE_FLAGS", '{"shop": ["checkout"]}'),
        ("PAGE_FLAGS", '{"/*/shop": ["checkout"]}'),
        ("PAGE_FLAGS", '{"/?a": ["checkout"]}'),
        ("PAGE_FLAGS", '{"/": "checkout"}'),
        ("PAGE_FLAGS", '{"/": [1]}'),
        ("PAGE_FLAGS", '{"/": ["a/b/c"]}'),
        ("PAGE_FLAGS", json.dumps({"/": ["f" * 5_000]})),
        ("PAGE_CONTEXT", '{"country": "ip"}'),
        ("PAGE_CONTEXT", '{"country": "cf"}'),
        ("PAGE_CONTEXT", '{"country": 1}'),
        ("PAGE_CONTEXT", '{"a..b": "path"}'),
        ("PAGE_ORIGIN", "shop.example.com"),
        ("PAGE_ORIGIN", "https://shop.example.com/path"),
        ("PAGE_ORIGIN", "https://user:password@shop.example.com"),
        ("PAGE_COOKIE", "a b"),
        ("PAGE_COOKIE", "a;b"),
    ],
)
def test_what_is_wrong_is_named(name: str, text: str) -> None:
    """The error names the setting and what it must be, and does not repeat what was given."""
    with pytest.raises(SettingsError) as caught:
        read_worker_settings({name: text})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name} must be ")


@pytest.mark.parametrize(
    ("attribute", "source"),
    [
        ("email", "header:Cf-Access-Authenticated-User-Email"),
        ("group", "header:X-Internal-User"),
        ("group", "header:x-staff"),
        ("staff", "cookie:who"),
        ("user.isStaff", "query:who"),
        ("is_employee", "header:accept-language"),
        ("group", "cookie:admin"),
    ],
)
def test_visitors_do_not_say_who_they_are(attribute: str, source: str) -> None:
    """Anybody can write cookies, headers and URLs, so no rule may read there who is staff; the error says where."""
    with pytest.raises(SettingsError, match=r"anybody can send.*take it from access:CLAIM"):
        read_worker_settings({"PAGE_CONTEXT": json.dumps({attribute: source})})


@pytest.mark.parametrize(
    ("attribute", "source"),
    [("staff", "access:email"), ("staff", "signed:staff"), ("stafford", "cookie:a"), ("internalised", "header:b")],
)
def test_who_vouches_for_staff(attribute: str, source: str) -> None:
    """A verified claim may say it, and a name that only looks like one is a name."""
    environ = {"PAGE_CONTEXT": json.dumps({attribute: source})} | VOUCHED
    assert read_worker_settings(environ).pages.context == {attribute: source}


@pytest.mark.parametrize("attribute", ["targeting_key", "targetingKey"])
@pytest.mark.parametrize("source", ["cookie:id", "header:x-visitor", "query:id", "cf:country", "path", "host"])
def test_the_unit_is_not_what_anybody_says(attribute: str, source: str) -> None:
    """It is the visitor's cookie, or what somebody vouches for; the error names the ways out."""
    with pytest.raises(SettingsError) as caught:
        read_worker_settings({"PAGE_CONTEXT": json.dumps({attribute: source})})
    (problem,) = caught.value.problems
    assert problem.startswith(f"PAGE_CONTEXT: {attribute} is the unit and comes from {source}: leave it out ")
    assert problem.endswith("signed:ATTRIBUTE or access:CLAIM")


@pytest.mark.parametrize("source", ["visitor", "signed:customer", "access:sub"])
def test_what_the_unit_may_be(source: str) -> None:
    """The cookie by name, a signed attribute, a verified claim."""
    environ = {"PAGE_CONTEXT": json.dumps({"targeting_key": source})} | VOUCHED
    assert read_worker_settings(environ).pages.context == {"targeting_key": source}


@pytest.mark.parametrize("attribute", ["targeting_key", "address"])
@pytest.mark.parametrize(
    "name",
    [
        "cf-connecting-ip",
        "CF-Connecting-IPv6",
        "cf-pseudo-ipv4",
        "X-Forwarded-For",
        "x-real-ip",
        "True-Client-IP",
        "forwarded",
    ],
)
def test_an_address_is_no_attribute(attribute: str, name: str) -> None:
    """Nor a unit: it is personal data, whatever its header is called."""
    with pytest.raises(SettingsError, match=f"PAGE_CONTEXT: {attribute} comes from header:{name}: an IP address is no"):
        read_worker_settings({"PAGE_CONTEXT": json.dumps({attribute: f"header:{name}"})})


KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
PATHS = '{"/": ["checkout"]}'
VOUCHED = {
    "PAGE_ATTRIBUTE_KEYS": json.dumps({"k": KEY}),
    "PAGE_ACCESS_TEAM": "https://a.cloudflareaccess.com",
    "PAGE_ACCESS_AUDIENCE": "a",
}
"""What signed attributes and claims need."""


def test_keys_of_attributes_are_a_secret() -> None:
    """They are bound as one, change the settings' digest, and are in no binding that can be read."""
    keys = json.dumps({"2026-01": KEY})
    settings = read_worker_settings({"PAGE_FLAGS": PATHS, "PAGE_ATTRIBUTE_KEYS": keys})
    assert settings.pages.secrets() == {"PAGE_ATTRIBUTE_KEYS": Secret(keys)}
    assert KEY not in repr(settings)
    assert KEY not in json.dumps(worker_bindings(settings))
    assert read_worker_settings({"PAGE_ATTRIBUTE_KEYS": keys}).pages.secrets() == {}


@pytest.mark.parametrize("keys", ["{}", KEY, '{"a": "c2hvcnQ="}', '{"a.b": "' + KEY + '"}', '{"a": 1}'])
def test_keys_that_are_wrong(keys: str) -> None:
    """The error says the form and not the key."""
    with pytest.raises(SettingsError, match="PAGE_ATTRIBUTE_KEYS must be JSON") as caught:
        read_worker_settings({"PAGE_ATTRIBUTE_KEYS": keys})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PAGE_CONTEXT": '{"plan": "signed:plan"}'}, "set PAGE_ATTRIBUTE_KEYS"),
        ({"PAGE_CONTEXT": '{"staff": "access:email"}'}, "need PAGE_ACCESS_TEAM and PAGE_ACCESS_AUDIENCE"),
        ({"PAGE_ACCESS_TEAM": "https://a.cloudflareaccess.com"}, "need PAGE_ACCESS_TEAM and PAGE_ACCESS_AUDIENCE"),
        ({"PAGE_ACCESS_AUDIENCE": "app"}, "need PAGE_ACCESS_TEAM and PAGE_ACCESS_AUDIENCE"),
        (
            {"PAGE_ACCESS_TEAM": "http://a.cloudflareaccess.com", "PAGE_ACCESS_AUDIENCE": "a"},
            "PAGE_ACCESS_TEAM must be",
        ),
    ],
)
def test_rules_need_what_verifies_them(environ: dict[str, str], said: str) -> None:
    """A rule that could never hold is an error, not a silence."""
    with pytest.raises(SettingsError, match=said):
        read_worker_settings(environ)
