"""The command line of `sync-job`: commands and their options. `function` names what a command does."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from flagedge import __version__

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 (it has no public name)

_EPILOG = """\
Settings come from the environment; docs/settings.md lists them, `sync-job settings` shows those in force.
Exit codes: 0 done or nothing to do, 1 failed (the live Worker is untouched), 2 wrong settings.
"""
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SECONDS_MAX = 3650 * 86_400


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="sync-job",
        description="Bring Confidence flags to your Cloudflare Worker: fetch the state, compile it, deploy it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_rollback(commands)
    _add_override(commands)
    _add_status(commands)
    _add_diff(commands)
    _add_history(commands)
    _add_explain(commands)
    _add_purge(commands)
    _add_settings(commands)
    _add_keys(commands)
    _add_types(commands)
    _add_build(commands)
    return parser


def _add_run(commands: _Commands) -> None:
    run = commands.add_parser("run", help="one pass: fetch, compile, deploy; does nothing when nothing changed")
    run.set_defaults(function="run")
    run.add_argument("--force", action="store_true", help="deploy whatever is live, another account's state too")
    run.add_argument("--adopt", action="store_true", help="detach the Worker that the queue feeds, to pull from it")
    run.add_argument("--every", type=read_seconds, metavar="TIME", help="pass after pass, this far apart: 20s, 5m, 1h")
    run.add_argument(
        "--for", dest="lasting", type=read_seconds, metavar="TIME", help="with --every: end after this time"
    )
    run.add_argument(
        "--approve", default="", metavar="ETAG", help="deploy this very state, whatever MAX_BLAST_RADIUS says to it"
    )
    run.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _add_rollback(commands: _Commands) -> None:
    rollback = commands.add_parser("rollback", help="deploy an earlier state, until the CDN serves a new one")
    rollback.set_defaults(function="rollback")
    which = rollback.add_mutually_exclusive_group()
    which.add_argument("--to", default="", metavar="ETAG", help="the state (default: the one before what is live)")
    which.add_argument("--clear", action="store_true", help="end a rollback: deploy what the CDN serves")
    rollback.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _add_override(commands: _Commands) -> None:
    override = commands.add_parser("override", help="break-glass: what a flag is for everybody, at once")
    override.set_defaults(function="override", parser=override)
    override.add_argument("flag", nargs="?", default="", metavar="FLAG", help="its name, with or without flags/")
    action = override.add_mutually_exclusive_group(required=True)
    action.add_argument("--variant", default="", help="everybody gets this variant")
    action.add_argument("--off", action="store_true", help="everybody gets the caller's default")
    action.add_argument("--clear", action="store_true", help="the flag's rules decide again")
    action.add_argument("--list", action="store_true", help="the overrides that hold")
    override.add_argument("--all", action="store_true", help="with --clear: those of all flags")
    override.add_argument(
        "--for", dest="lasting", type=read_seconds, metavar="TIME", help="end after this time: 30m, 2h, 1d"
    )
    override.add_argument("--why", type=read_words, default="", help="the reason, for status and history")
    override.add_argument("--json", action="store_true", help="print it as JSON")


def _add_status(commands: _Commands) -> None:
    status = commands.add_parser("status", help="what is live: state, age, versions, token keys, queue backlog")
    status.set_defaults(function="status")
    status.add_argument("--json", action="store_true", help="print it as one JSON object")


def _add_diff(commands: _Commands) -> None:
    diff = commands.add_parser(
        "diff",
        help="what differs between two states, and for how many",
        description="What differs between two states. The share of units whose answer changes is measured on made-up "
        "units, whose attributes are drawn from what the rules tell apart: for rules that look at units alone it "
        "estimates the share of all units; for others, the share in such a crowd. With a database, also on units seen "
        "in exposures; of their context the unit alone is known, so rules about attributes pass them over. "
        "± is the 95 %% interval that comes from having drawn them.",
    )
    diff.set_defaults(function="diff")
    diff.add_argument("--from", dest="old", default="", metavar="ETAG|FILE", help="the old state (default: live)")
    diff.add_argument("--to", dest="new", default="", metavar="ETAG|FILE", help="the new state (default: the CDN's)")
    diff.add_argument(
        "--units", type=read_count, default=0, metavar="N", help="how many units to make up (default: 5000)"
    )
    diff.add_argument(
        "--database", default="", metavar="PATH|URL", help="a database of log-consumer, file or lake, for units seen"
    )
    diff.add_argument("--json", action="store_true", help="print it as one JSON object")


def _add_history(commands: _Commands) -> None:
    history = commands.add_parser("history", help="what was deployed, refused or taken back, when, by whom and why")
    history.set_defaults(function="history")
    history.add_argument("--flag", default="", help="of this flag alone, with or without flags/")
    history.add_argument(
        "--database", default="", metavar="PATH|URL", help="one of log-consumer, file or lake (default: the archive)"
    )
    history.add_argument("--last", type=read_count, default=20, metavar="N", help="how many records (default: 20)")
    history.add_argument("--json", action="store_true", help="print them as one JSON list")


def _add_explain(commands: _Commands) -> None:
    explain = commands.add_parser("explain", help="why a flag is what it is for a context, rule by rule")
    explain.set_defaults(function="explain")
    explain.add_argument("--flag", required=True, help="its name, with or without flags/")
    explain.add_argument(
        "--context", required=True, metavar="JSON", help="the evaluation context, as a client sends it"
    )
    explain.add_argument("--client", default="", help="whose flags: a client's or a credential's name (default: ours)")
    source = explain.add_mutually_exclusive_group()
    source.add_argument("--state", type=Path, metavar="FILE", help="a state as the CDN serves it (default: fetched)")
    source.add_argument("--etag", default="", help="the entity tag of a state that was deployed, from the archive")
    explain.add_argument("--json", action="store_true", help="print it as one JSON object")


def _add_purge(commands: _Commands) -> None:
    purge = commands.add_parser("purge", help="remove pages from Cloudflare's cache, when their origin has changed")
    purge.set_defaults(function="purge", parser=purge)
    purge.add_argument(
        "--prefix", action="append", default=[], metavar="URL", help="those whose URL begins so: shop.example.com/shop"
    )
    purge.add_argument("--tag", action="append", default=[], help="those whose Cache-Tag has it")
    purge.add_argument("--everything", action="store_true", help="all that the zone has cached, pages or not")


def _add_settings(commands: _Commands) -> None:
    settings = commands.add_parser("settings", help="every setting in force, where it came from, secrets masked")
    settings.set_defaults(function="settings")


def _add_keys(commands: _Commands) -> None:
    keys = commands.add_parser("keys", help="the keys of apply tokens: list, rotate, retire")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the keys that are bound").set_defaults(function="keys list")
    actions.add_parser("rotate", help="a fresh key seals, the old ones go on opening").set_defaults(
        function="keys rotate"
    )
    retire = actions.add_parser("retire", help="remove a key that no token in flight needs")
    retire.set_defaults(function="keys retire")
    retire.add_argument("key", help="its id, or its secret's name")
    retire.add_argument("--force", action="store_true", help="also while its tokens may be in use: they fail then")


def _add_types(commands: _Commands) -> None:
    types = commands.add_parser("types", help="TypeScript types of the flags, for Workers that bind them")
    types.set_defaults(function="types")
    types.add_argument("--state", type=Path, metavar="FILE", help="a state as the CDN serves it (default: fetched)")
    types.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write, such as flags.d.ts")


def _add_build(commands: _Commands) -> None:
    build = commands.add_parser("build", help="compile a state file and write what would be uploaded")
    build.set_defaults(function="build")
    build.add_argument("--state", type=Path, required=True, metavar="FILE", help="a state as the CDN serves it")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="where metadata.json and the modules go")
    build.add_argument("--etag", default="", help="entity tag of the state (default: made from its content)")


def read_seconds(text: str) -> float:
    """A span of time in seconds, up to ten years: what is counted from now on is a date that can be told."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= _SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a time such as 20s, 5m, 1h or 2d, of up to 3650d")
    return float(seconds)


def read_words(text: str) -> str:
    """Words as one line; what a terminal could not show, or no byte stands for, is left out."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def read_count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)
