"""The settings of pages: which flags a path uses, where the context comes from. Source: docs/pages.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flagedge.page_attributes import KEY_BYTES
from flagedge.settings import Secret, decode_base64

VARIABLE_BYTES_MAX = 5_000
"""What Cloudflare takes as one variable."""
COOKIE = "flag_visitor"
ATTRIBUTE_KEYS_NAME = "PAGE_ATTRIBUTE_KEYS"
FLAGS_EXPECTED = 'JSON such as {"/": ["checkout"], "/shop/*": ["checkout", "banner"]}, at most 5,000 bytes'
CONTEXT_EXPECTED = (
    'JSON such as {"country": "cf:country", "theme": "cookie:theme"}, at most 5,000 bytes; the sources are cf:FIELD, '
    "cookie:NAME, header:NAME, query:NAME, signed:ATTRIBUTE, access:CLAIM, path, host and visitor"
)
_PATTERN = re.compile(r"/[^*?#\s]*\*?")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FLAG = re.compile(r"(?:flags/)?[^/\s]+")
_ATTRIBUTE = re.compile(r"[^\s.]+(?:\.[^\s.]+)*")
_SOURCE = re.compile(r"(?:cf|cookie|header|query|signed|access):[^\s:]+|path|host|visitor")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_WRITTEN_BY_VISITORS = frozenset({"cookie", "header", "query"})
_WORD_ENDS = re.compile(r"[._-]+|(?<=[a-z0-9])(?=[A-Z])")
_IDENTITY_WORDS = frozenset({"admin", "employee", "internal", "staff"})
_UNITS = frozenset({"targeting_key", "targetingKey"})
"""The unit as the Worker reads it: OpenFeature's spelling is one too."""
_UNIT_KINDS = frozenset({"access", "signed", "visitor"})
_ADDRESS_HEADERS = frozenset(
    {
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "cf-pseudo-ipv4",
        "forwarded",
        "true-client-ip",
        "x-forwarded-for",
        "x-real-ip",
    }
)
"""Where Cloudflare and proxies write a visitor's IP address."""


@dataclass(frozen=True, slots=True)
class PageSettings:
    """Pages are served where `flags` names any. `client` empty is the client whose state is fetched."""

    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Short names by path, or by the beginning of a path with `*` behind it."""
    origin: str = ""
    """Where pages come from; the zone's own origin unless given."""
    context: Mapping[str, str] = field(default_factory=dict)
    """Where an attribute comes from."""
    cookie: str = COOKIE
    client: str = ""
    attribute_keys: Secret = Secret("")  # noqa: RUF009 (a Secret is immutable)
    """JSON: keys of signed attributes, base64, by id."""
    access_team: str = ""
    """The address of the team whose tokens of Cloudflare Access are believed."""
    access_audience: str = ""

    def secrets(self) -> dict[str, Secret]:
        """What is bound beside `bindings`, and shown nowhere."""
        return {ATTRIBUTE_KEYS_NAME: self.attribute_keys} if self.flags and self.attribute_keys else {}

    def find_problems(self) -> list[str]:
        """What is wrong with the settings together."""
        kinds = {source.partition(":")[0] for source in self.context.values()}
        problems = [
            f"PAGE_CONTEXT: {attribute} {problem}"
            for attribute, source in self.context.items()
            if (problem := _find_problem(attribute, source))
        ]
        if "signed" in kinds and not self.attribute_keys:
            problems.append(f"PAGE_CONTEXT has attributes that are signed: set {ATTRIBUTE_KEYS_NAME}")
        if bool(self.access_team) != bool(self.access_audience) or ("access" in kinds and not self.access_team):
            problems.append("claims of Cloudflare Access need PAGE_ACCESS_TEAM and PAGE_ACCESS_AUDIENCE")
        return problems

    def bindings(self) -> list[dict[str, Any]]:
        """What the Worker is told; nothing where it serves no pages."""
        if not self.flags:
            return []
        texts = {
            "PAGE_ORIGIN": self.origin,
            "PAGE_COOKIE": self.cookie,
            "PAGE_CLIENT": self.client,
            "PAGE_ACCESS_TEAM": self.access_team,
            "PAGE_ACCESS_AUDIENCE": self.access_audience,
        }
        return [
            {"type": "json", "name": "PAGE_FLAGS", "json": {path: list(names) for path, names in self.flags.items()}},
            {"type": "json", "name": "PAGE_CONTEXT", "json": dict(self.context)},
            *({"type": "plain_text", "name": name, "text": text} for name, text in texts.items() if text),
        ]


def parse_page_flags(text: str) -> Mapping[str, tuple[str, ...]]:
    """Short names of flags by path pattern. Raises ValueError."""
    paths = _read_object(text)
    for pattern, names in paths.items():
        if not _PATTERN.fullmatch(pattern) or not isinstance(names, list):
            raise ValueError
        if not all(isinstance(name, str) and _FLAG.fullmatch(name) for name in names):
            raise ValueError
    return {pattern: tuple(name.removeprefix("flags/") for name in names) for pattern, names in paths.items()}


def parse_page_context(text: str) -> Mapping[str, str]:
    """Sources by attribute. Raises ValueError."""
    rules = _read_object(text)
    for attribute, source in rules.items():
        if not _ATTRIBUTE.fullmatch(attribute) or not isinstance(source, str) or not _SOURCE.fullmatch(source):
            raise ValueError
    return rules


def are_attribute_keys(text: str) -> bool:
    """Whether a text is JSON of keys, base64 of 32 bytes each, by id."""
    try:
        keys = _read_object(text)
        return bool(keys) and all(
            _KEY_ID.fullmatch(key_id) and len(decode_base64(key)) == KEY_BYTES for key_id, key in keys.items()
        )
    except (ValueError, TypeError):
        return False


def parse_cookie_name(text: str) -> str:
    """A token of RFC 9110. Raises ValueError."""
    if not _TOKEN.fullmatch(text):
        raise ValueError
    return text


def parse_team(text: str) -> str:
    """As `parse_origin`; its keys must come over TLS, but from this very machine. Raises ValueError."""
    team = parse_origin(text)
    if not re.match(r"https://|http://(?:127\.0\.0\.1|localhost)(?::|$)", team):
        raise ValueError
    return team


def parse_origin(text: str) -> str:
    """Scheme, host and perhaps port, nothing behind them. Raises ValueError."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+/?", text):
        raise ValueError
    return text.rstrip("/")


def _find_problem(attribute: str, source: str) -> str:
    """Why an attribute must not come from a source, and what may be done; "" if it may."""
    kind, _, name = source.partition(":")
    if kind == "header" and name.lower() in _ADDRESS_HEADERS:
        return f"comes from {source}: an IP address is no attribute; take a field such as cf:country, or leave it out"
    if attribute in _UNITS and kind not in _UNIT_KINDS:
        return (
            f"is the unit and comes from {source}: leave it out for the visitor's cookie, or take it from "
            "signed:ATTRIBUTE or access:CLAIM"
        )
    if _is_claim(attribute, source):
        return (
            f"comes from a {kind} that anybody can send, and says who they are: take it from access:CLAIM or "
            "signed:ATTRIBUTE"
        )
    return ""


def _is_claim(attribute: str, source: str) -> bool:
    """Whether visitors could say of themselves who they are: that is verified, or not known."""
    kind, _, name = source.partition(":")
    words = {word.lower() for text in (attribute, name) for word in _WORD_ENDS.split(text)}
    says_who = bool(words & _IDENTITY_WORDS) or name.lower().startswith("cf-access-")
    return kind in _WRITTEN_BY_VISITORS and says_who


def _read_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict) or len(text.encode()) > VARIABLE_BYTES_MAX:
        raise ValueError
    return value
