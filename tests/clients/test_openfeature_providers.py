"""OpenFeature's providers, unmodified, against our Worker: in Python, in node, in a Worker, in a page."""

from __future__ import annotations

from typing import Any

import pytest
from client_flags import Call

CLIENTS = (
    "PyPI ofrep",
    "PyPI flagship",
    "node ofrep",
    "node flagship",
    "binding flagship",
    "page ofrep",
    "page flagship",
    "page flagedge",
)
NO_VALUE_IS_AN_ERROR = {"node ofrep"}
"""It takes an answer without a value for a malformed one, and gives the default with an error."""
REFUSED = {
    "PyPI ofrep": "GENERAL",
    "PyPI flagship": "GENERAL",
    "node ofrep": "GENERAL",
    "node flagship": "GENERAL",
    "page ofrep": "FLAG_NOT_FOUND",
    "page flagship": "FLAG_NOT_FOUND",
    "page flagedge": "PROVIDER_NOT_READY",
}
"""What providers make of a secret that is refused: those of pages have no flags then. A binding needs none."""


@pytest.mark.parametrize("client", CLIENTS)
def test_every_type_has_its_value(ask: Any, client: str) -> None:
    """Integers and floats are told apart, objects come whole."""
    calls: list[Call] = [
        ("boolean", "f.on", False, "u", {}),
        ("string", "f.name", "", "u", {}),
        ("integer", "f.count", 0, "u", {}),
        ("float", "f.price", 0.0, "u", {}),
        ("float", "f.ratio", 0.0, "u", {}),
        ("string", "f.nested.deep", "", "u", {}),
        ("object", "f.nested", {}, "u", {}),
    ]
    results = ask(client, *calls)
    assert [result["value"] for result in results] == [True, "é😀", 5, 5.0, 0.25, "yes", {"deep": "yes"}]
    assert {result["error"] for result in results} == {None}
    assert {result["variant"] for result in results} == {"flags/f/variants/on"}


@pytest.mark.parametrize("client", CLIENTS)
def test_targeting_and_the_callers_default(ask: Any, client: str) -> None:
    """A context decides; who is not targeted keeps the default, without an error."""
    match, other = ask(
        client,
        ("boolean", "swedish.on", False, "u", {"country": "SE"}),
        ("boolean", "swedish.on", False, "u", {"country": "NO"}),
    )
    assert (match["value"], match["error"]) == (True, None)
    assert (other["value"], other["error"]) == (False, "GENERAL" if client in NO_VALUE_IS_AN_ERROR else None)


@pytest.mark.parametrize("client", CLIENTS)
def test_mistakes_have_their_code(ask: Any, client: str) -> None:
    """An unknown flag, an unknown field and a wrong type are told apart; the value is the default."""
    results = ask(
        client,
        ("boolean", "nothing", True, "u", {}),
        ("boolean", "f.nothing", True, "u", {}),
        ("boolean", "f.name", True, "u", {}),
    )
    assert [result["value"] for result in results] == [True, True, True]
    assert [result["error"] for result in results] == ["FLAG_NOT_FOUND", "FLAG_NOT_FOUND", "TYPE_MISMATCH"]


@pytest.mark.parametrize("client", REFUSED)
def test_wrong_secret(ask: Any, client: str) -> None:
    """It gives the default and an error, never a value."""
    [result] = ask(client, ("boolean", "f.on", False, "u", {}), secret="wrong")
    assert (result["value"], result["error"]) == (False, REFUSED[client])
