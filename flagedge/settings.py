"""How settings are read: from one mapping, typed, all problems reported at once.

The two jobs declare their settings with a `SettingsReader`; nothing else in the tree reads the environment.
An empty value counts as absent, as in most schedulers a variable cannot be unset, only emptied.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from flagedge.errors import SettingsError

T = TypeVar("T")


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


class SettingsReader:
    """Reads typed values out of a mapping and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        return self._environ.get(name, "").strip() or default

    def required(self, name: str, why: str) -> str:
        value = self.text(name)
        if not value:
            self.problems.append(f"{name} is not set ({why})")
        return value

    def secret(self, name: str) -> Secret:
        return Secret(self.text(name))

    def required_secret(self, name: str, why: str) -> Secret:
        return Secret(self.required(name, why))

    def parsed(self, name: str, parse: Callable[[str], T], default: T, expected: str) -> T:
        """The value through `parse`; a ValueError becomes a problem that says what was `expected`."""
        text = self.text(name)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError:
            self.problems.append(f"{name} must be {expected}")
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
        return self.text(name).lower() not in {"", "false", "0", "no", "off"}

    def choice(self, name: str, default: str, among: tuple[str, ...]) -> str:
        def parse(text: str) -> str:
            if text not in among:
                raise ValueError
            return text

        return self.parsed(name, parse, default, "one of " + ", ".join(among))

    def url(self, name: str, default: str = "") -> str:
        def parse(text: str) -> str:
            parts = urlsplit(text)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError
            return text.rstrip("/")

        return self.parsed(name, parse, default, "an http(s) URL")

    def key_bytes(self, name: str, *, decode: Callable[[str], bytes], length: int, expected: str) -> Secret:
        """A secret that must decode to `length` bytes; its value never appears in the problem."""
        value = self.secret(name)
        if value:
            try:
                right = len(decode(value.reveal())) == length
            except (ValueError, binascii.Error):
                right = False
            if not right:
                self.problems.append(f"{name} must be {expected}")
        return value

    def finish(self) -> None:
        """Raise one SettingsError with every problem found, or nothing."""
        if self.problems:
            raise SettingsError(self.problems)


def decode_base64(text: str) -> bytes:
    """Strict standard base64."""
    return base64.b64decode(text, validate=True)
