"""Every command, setting, table and view is documented, and nothing else is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SETTINGS = (REPOSITORY / "docs/settings.md").read_text()
COMMANDS = Path(sys.executable).parent
SETTING = re.compile(r'(?:reader\.\w+\(\s*|^    )"([A-Z_]+)"(?=[,):])', re.MULTILINE)


def settings_of(package: str) -> set[str]:
    """The names that a job reads from the environment."""
    modules = [path for name in ("settings", "wrangler") if (path := REPOSITORY / package / f"{name}.py").exists()]
    return {name for module in modules for name in SETTING.findall(module.read_text())}


@pytest.mark.parametrize("package", ["sync_job", "log_consumer"])
def test_every_setting_is_documented(package: str) -> None:
    """What a job reads from the environment stands in a table of docs/settings.md."""
    read = settings_of(package)
    assert read
    assert not {name for name in read if f"`{name}`" not in SETTINGS}


def test_no_setting_is_documented_that_nobody_reads() -> None:
    """A documented setting is read by one of the jobs."""
    read = settings_of("sync_job") | settings_of("log_consumer")
    documented = set(re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \|", SETTINGS, re.MULTILINE))
    names = {name for cell in documented for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert names - read == set()


@pytest.mark.parametrize(
    ("command", "subcommands"),
    [
        ("sync-job", ["run", "rollback", "override", "status", "diff", "history", "explain"]),
        ("sync-job", ["purge", "settings", "keys", "types", "build"]),
        ("log-consumer", ["drain", "run", "redrive", "sql", "report", "maintain", "export"]),
        ("local-edge", ["up", "serve"]),
    ],
)
def test_help_names_every_subcommand(command: str, subcommands: list[str]) -> None:
    """`--help` works without any setting and says what there is."""
    done = subprocess.run([COMMANDS / command, "--help"], capture_output=True, text=True, check=True, env={"PATH": ""})
    for name in subcommands:
        assert name in done.stdout
        subprocess.run([COMMANDS / command, name, "--help"], capture_output=True, check=True, env={"PATH": ""})


def test_links_between_pages_lead_somewhere() -> None:
    """Relative links of README and docs/ point at files that exist."""
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
