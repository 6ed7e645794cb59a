"""HTML that cannot be escaped from: text becomes markup in one place, which escapes it."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

VOID = frozenset({"br", "link", "meta", "col"})
# What a browser would drop or not show, and what turns the text after it, is shown as a sign.
SIGNS = (
    {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    | {0x7F: "␡", 0x2028: "␤", 0x2029: "␤"}
    | dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}")
)


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Part: TypeAlias = "str | Html | Iterable[Part] | None"


def tag(name: str, /, *children: Part, **attributes: str | bool | int | None) -> Html:
    """An element. Children are text unless they are Html. Attributes: `class_`, `aria_label`; not False and None."""
    given = "".join(_write_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: Part) -> Html:
    """Children one after the other."""
    return Html("".join(_write(child) for child in children))


def escape(text: str) -> Html:
    """Text as markup, for an element or an attribute in quotes."""
    return Html(html.escape(text.translate(SIGNS), quote=True))


def _write(child: Part) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    return escape(child) if isinstance(child, str) else join(*child)


def _write_attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
