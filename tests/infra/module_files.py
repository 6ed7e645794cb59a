"""Terraform's files as data, without Terraform: blocks by kind and labels, texts without their quotes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2
from terraform_run import MODULES, TERRAFORM


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource or data source (whose `kind` begins with `data.`); `body` as it is written."""

    path: Path
    kind: str
    name: str
    body: dict[str, Any]


def read_blocks(module: str, kind: str) -> list[tuple[Path, dict[str, Any]]]:
    """Every block of one kind in a module's files, labels as keys around the body."""
    found = []
    for path in sorted((TERRAFORM / module).glob("*.tf")):
        with path.open() as file:
            found += [(path, unquoted(block)) for block in hcl2.load(file).get(kind, [])]
    return found


def read_resources() -> list[Resource]:
    """All modules' resources and data sources."""
    found = []
    for module in MODULES:
        for kind, prefix in (("resource", ""), ("data", "data.")):
            for path, block in read_blocks(module, kind):
                [(type_name, named)] = block.items()
                [(name, body)] = named.items()
                found.append(Resource(path, f"{prefix}{type_name}", name, body))
    return found


def read_locals(module: str) -> dict[str, Any]:
    """All local values of a module by name."""
    return {name: value for _, block in read_blocks(module, "locals") for name, value in block.items()}


def read_variables(module: str) -> dict[str, dict[str, Any]]:
    """All variables of a module by name."""
    return {name: body for _, block in read_blocks(module, "variable") for name, body in block.items()}


def blocks_of(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Nested blocks by name, those of `dynamic` among them."""
    for name, value in body.items():
        if name == "dynamic":
            for inner, dynamic in (item for block in value for item in block.items()):
                [content] = dynamic["content"]
                yield inner, content
        elif is_blocks(value):
            yield from ((name, block) for block in value)


def is_blocks(value: Any) -> bool:
    """Whether a value is written as blocks, not as an attribute."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "__is_block__" in value[0]


def unquoted(value: Any) -> Any:
    """Texts and labels without the quotes around them, which the parser leaves; comments away."""
    if isinstance(value, str):
        return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    if isinstance(value, list):
        return [unquoted(each) for each in value]
    if isinstance(value, dict):
        hidden = {"__comments__", "__inline_comments__"}
        return {unquoted(key): unquoted(each) for key, each in value.items() if key not in hidden}
    return value
