"""`make tf-docs`: the tables of inputs and outputs in the modules' READMEs, from their variables and outputs.

A README holds them between `<!-- tables -->` and `<!-- /tables -->`; what stands there is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TERRAFORM = Path(__file__).resolve().parent / "terraform"
MODULES = (".", "aws", "cloudflare")
_BLOCK = r'^{kind} "(\w+)" \{{\n(.*?)^\}}$'
_ATTRIBUTE = re.compile(r"^  (\w+) += (.*?)(?=^  \w|\Z)", re.DOTALL | re.MULTILINE)
_TABLES = re.compile(r"(?<=<!-- tables -->\n).*(?=<!-- /tables -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A variable or an output: attributes as they are written, in one line each."""

    name: str
    attributes: dict[str, str]

    @property
    def description(self) -> str:
        return self.attributes["description"].strip('"').replace('\\"', '"').replace("|", "\\|")


def read_blocks(module: Path, kind: str) -> Iterator[Block]:
    """A module's `variable` or `output` blocks, in the order of the file."""
    text = (module / f"{kind}s.tf").read_text()
    for name, body in re.findall(_BLOCK.format(kind=kind), text, re.DOTALL | re.MULTILINE):
        before = body.partition("\n  validation {")[0]
        attributes = {key: " ".join(value.split()) for key, value in _ATTRIBUTE.findall(before)}
        yield Block(name, attributes)


def render_tables(module: Path) -> str:
    """Both tables in Markdown."""
    lines = ["## Inputs", "| name | type | default | meaning |", "|---|---|---|---|"]
    for block in read_blocks(module, "variable"):
        default = block.attributes.get("default")
        shown = f"`{default}`" if default is not None else "required"
        lines.append(f"| `{block.name}` | `{block.attributes['type']}` | {shown} | {block.description} |")
    lines += ["", "## Outputs", "| name | meaning |", "|---|---|"]
    lines += [f"| `{block.name}` | {block.description} |" for block in read_blocks(module, "output")]
    return "\n".join(lines) + "\n"


def render_readme(module: Path) -> str:
    """The README as it has to be."""
    tables = render_tables(module)
    return _TABLES.sub(lambda _: tables, (module / "README.md").read_text())


def main() -> None:
    for name in MODULES:
        module = TERRAFORM / name
        (module / "README.md").write_text(render_readme(module))


if __name__ == "__main__":
    main()
