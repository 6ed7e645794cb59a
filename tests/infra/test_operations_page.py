"""What docs/operations.md and docs/deploy.md tell an operator to type, and what they say that it costs."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.package import REPOSITORY

PAGES = {name: (REPOSITORY / "docs" / name).read_text() for name in ("operations.md", "deploy.md")}
COMMAND = re.compile(
    r"(?:`|^    |ExecStart=\S*/|bin/|run: |\[\")(sync-job|log-consumer)(?: |\", \")([a-z-]+)([^`\n\]]*)", re.MULTILINE
)
GB_S, TINY = 0.0000133, 0.0005


@functools.cache
def help_of(*command: str) -> str:
    """What the command says of itself. Raises CalledProcessError where there is no such command."""
    program = [Path(sys.executable).parent / command[0], *command[1:], "--help"]
    return subprocess.run(program, capture_output=True, text=True, check=True, env={"PATH": ""}).stdout


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_there(page: str) -> None:
    """Every command of ours, and every option behind it."""
    found = COMMAND.findall(PAGES[page])
    assert len(found) > 4
    for program, command, rest in found:
        text = help_of(program, command)
        options = set(re.findall(r"(?<=\s)--[a-z-]+", rest))
        assert {option for option in options if option not in text} == set(), (program, command)


def test_commands_that_terraform_is_told() -> None:
    """Addresses in the runbook, and where it points to, are of resources that the modules have."""
    text = PAGES["operations.md"] + (REPOSITORY / "infra/terraform/cloudflare/README.md").read_text()
    addresses = re.findall(r"module\.flagedge\.module\.(\w+)\.(\w+)\.(\w+)\[", text)
    assert len(addresses) == 5
    for module, kind, name in addresses:
        files = (REPOSITORY / "infra/terraform" / module).glob("*.tf")
        assert any(f'resource "{kind}" "{name}"' in path.read_text() for path in files), (module, kind, name)


def test_costs_follow_from_the_formula() -> None:
    """Each row of the table, with the prices, the CPU time and the size that stand beside it."""
    rows = re.findall(r"^\| (?:busy|quiet)[^|]* \|([\d. |]+)\|$", PAGES["operations.md"], re.MULTILINE)
    assert len(rows) == 2
    for row in rows:
        resolves, *shown, total = map(float, row.split("|"))
        messages = 1_000_000 / resolves
        per_core = 4_000 if resolves > 1 else 16_000
        costs = [
            0.30 + 0.3 * 0.02,
            3 * messages / 1_000_000 * 0.40,
            messages / per_core * 1.77 * GB_S,
            0.030 * 0.023,
        ]
        assert shown == pytest.approx(costs, abs=TINY)
        assert total == pytest.approx(sum(costs), abs=0.005)


def test_what_a_month_costs() -> None:
    """The products are what they say, but for a digit."""
    [text] = re.findall(r"A month, whatever the traffic: (.*?); the dashboard", PAGES["operations.md"], re.DOTALL)
    sync, consumer, metrics, alarms, secrets = " ".join(text.split()).split("; ")
    for said, cost in (
        (sync, 43_200 * 1 * 1 * GB_S),
        (consumer, 8_640 * 3 * 2 * GB_S),
        (metrics, 20 * 0.30),
        (alarms, 12 * 0.10),
        (secrets, 4 * 0.40 + 112_320 * 0.05 / 10_000),
    ):
        assert float(said.rpartition(" ")[2]) == pytest.approx(cost, abs=0.005), said
    assert 112_320 == 2 * 43_200 + 3 * 8_640
