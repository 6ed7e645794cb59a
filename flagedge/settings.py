"""How settings are read: from one mapping, typed, all problems reported at once.

The two jobs declare their settings with a `SettingsReader`; nothing else in the tree reads the environment.
An empty value counts as absent, as in most schedulers a variable cannot be unset, only emptied.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from flagedge.errors import SettingsError

T = TypeVar("T")
# The longest name it stands before is a Worker's, which may have 63 characters.
NAME_PREFIX = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class Secret:
    """A value that prints as stars; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """A setting as it may be shown: the value of a secret is stars."""

    name: str
    value: str
    source: str


class SettingsReader:
    """Reads typed values out of a mapping, collects what is wrong with them, and remembers what was read.

    `sources` says where values came from that did not stand in the environment themselves.
    """

    def __init__(self, environ: Mapping[str, str], *, sources: Mapping[str, str] | None = None) -> None:
        self._environ = environ
        self._sources = sources or {}
        self.problems: list[str] = []
        self.in_force: dict[str, SettingInForce] = {}

    def text(self, name: str, default: str = "") -> str:
        value = self._value(name)
        self._note(name, value or default, is_set=bool(value))
        return value or default

    def required(self, name: str, why: str) -> str:
        value = self.text(name)
        if not value:
            self.problem(f"{name} is not set ({why})")
        return value

    def name_prefix(self, name: str) -> str:
        """What stands before the names of what a deployment has at Cloudflare, with its dash; or empty."""

        def parse(text: str) -> str:
            if not NAME_PREFIX.fullmatch(text):
                raise ValueError
            return f"{text}-"

        expected = "up to 32 lower-case letters, digits and dashes, without a dash at either end"
        return self.parsed(name, parse, "", expected)

    def secret(self, name: str) -> Secret:
        value = self._value(name)
        self._note(name, "***" if value else "", is_set=bool(value))
        return Secret(value)

    def secret_url(self, name: str) -> Secret:
        """A URL that is a secret as a whole, such as a webhook's."""
        url = self.secret(name)
        try:
            if url:
                _parse_url(url.reveal())
        except ValueError:
            self.problem(f"{name} must be an http(s) URL")
        return url

    def required_secret(self, name: str, why: str) -> Secret:
        value = self.secret(name)
        if not value:
            self.problem(f"{name} is not set ({why})")
        return value

    def _value(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def _note(self, name: str, shown: str, *, is_set: bool) -> None:
        source = self._sources.get(name, "environment") if is_set else "default"
        self.in_force[name] = SettingInForce(name, shown, source)

    def parsed(
        self, name: str, parse: Callable[[str], T], default: T, expected: str, *, show: Callable[[str], str] = str
    ) -> T:
        """The value through `parse`; a ValueError becomes a problem that says what was `expected`.

        `show` makes of the text what may be shown of it, where a part of it is secret.
        """
        text = self._value(name)
        self._note(name, show(text) if text else _shown(default), is_set=bool(text))
        if not text:
            return default
        try:
            return parse(text)
        except ValueError:
            self.problem(f"{name} must be {expected}")
            return default

    def whole_number(self, name: str, default: int, *, low: int, high: int) -> int:
        def parse(text: str) -> int:
            value = int(text)
            if not low <= value <= high:
                raise ValueError
            return value

        return self.parsed(name, parse, default, f"a whole number from {low} to {high}")

    def boolean(self, name: str, *, default: bool) -> bool:
        def parse(text: str) -> bool:
            if text.lower() not in {"true", "false"}:
                raise ValueError
            return text.lower() == "true"

        return self.parsed(name, parse, default, "true or false")

    def switch(self, name: str) -> bool:
        """Whether a switch is on: any value turns it on but false, 0, no and off."""
        text = self._value(name)
        is_on = text.lower() not in {"", "false", "0", "no", "off"}
        self._note(name, "on" if is_on else "off", is_set=bool(text))
        return is_on

    def choice(self, name: str, default: str, among: tuple[str, ...]) -> str:
        def parse(text: str) -> str:
            if text not in among:
                raise ValueError
            return text

        return self.parsed(name, parse, default, "one of " + ", ".join(among))

    def url(self, name: str, default: str = "") -> str:
        url = self.parsed(name, _parse_url, default, "an http(s) URL")
        if text := self._value(name):
            self._note(name, _masked_url(text), is_set=True)
        return url

    def key_bytes(self, name: str, *, decode: Callable[[str], bytes], length: int, expected: str) -> Secret:
        """A secret that must decode to `length` bytes; its value never appears in the problem."""
        value = self.secret(name)
        if value:
            try:
                right = len(decode(value.reveal())) == length
            except (ValueError, binascii.Error):
                right = False
            if not right:
                self.problem(f"{name} must be {expected}")
        return value

    def problem(self, text: str) -> None:
        """Add something that is wrong with several settings, or with what one leads to."""
        self.problems.append(text)

    def finish(self) -> None:
        """Raise one SettingsError with every problem found, or nothing."""
        if self.problems:
            raise SettingsError(self.problems)


def _parse_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError
    return text.rstrip("/")


def _masked_url(text: str) -> str:
    """The URL without what may be secret in it: user, password and query; nothing of what is none."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return "***"
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"***@{host}" if at else host, query="***" if parts.query else "").geturl()


def _shown(default: object) -> str:
    if default is None:
        return ""
    if isinstance(default, frozenset):
        return ",".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def decode_base64(text: str) -> bytes:
    """Strict standard base64."""
    return base64.b64decode(text, validate=True)


def is_reference(text: str) -> bool:
    """Whether a value names a secret of AWS instead of being one; `references.py` fetches those."""
    return text.strip().startswith(("arn:", "aws-secretsmanager:", "aws-ssm:"))
