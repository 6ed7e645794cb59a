"""The command `log-consumer`: parses, calls, prints.

    drain     load the flag-logs queue into the database until it is empty
    run       the same, for ever
    redrive   try again what was rejected, or parked
    sql       ask the database

Exit 0 done, 1 failed, 2 wrong settings; a failure is one `error:` line on stderr. SIGTERM ends a drain early and well:
what was pulled is loaded and acked first.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flagedge.cloudflare import Cloudflare
from flagedge.command import exit_code_of
from flagedge.logs import configure_logs
from log_consumer import job
from log_consumer.progress import Progress
from log_consumer.query import FORMATS, format_answer, query
from log_consumer.redrive import Redriven, redrive
from log_consumer.settings import Settings, read_query_settings, read_settings
from log_consumer.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    arguments = _parse(argv)

    def command() -> None:
        arguments.function(arguments)

    return exit_code_of(command, interrupted="interrupted; what was not acked is delivered again")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="log-consumer", description="Flag logs from the queue into DuckDB.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    drain = commands.add_parser("drain", help="load the flag-logs queue into the database until it is empty")
    drain.set_defaults(function=_drain, forever=False)
    run = commands.add_parser("run", help="the same for ever, asking the seldomer the longer nothing comes")
    run.set_defaults(function=_drain, forever=True)
    again = commands.add_parser("redrive", help="try again what was rejected, and what Confidence did not take")
    again.set_defaults(function=_redrive)
    again.add_argument("--dry-run", action="store_true", help="only say what would become of it")
    for each in (drain, run, again):
        each.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    sql = commands.add_parser("sql", help="ask the database, read-only")
    sql.set_defaults(function=_sql)
    sql.add_argument("query", help="SQL; docs and `show tables` say what there is")
    sql.add_argument("--format", choices=FORMATS, default="table")
    return parser.parse_args(argv)


def _drain(options: argparse.Namespace) -> None:
    settings = _read_settings()
    client = Cloudflare(api_token=settings.api_token, account_id=settings.account_id, base_url=settings.api_base_url)
    with client as cloudflare, _stopped_by(signal.SIGTERM) as stop, _progress() as watch:
        summary = job.run(settings, cloudflare, stop=stop, forever=options.forever, watch=watch)
    _print(options, summary.facts() | {"database": str(settings.database)}, _describe(summary, settings))


def _redrive(options: argparse.Namespace) -> None:
    settings = _read_settings()
    with Store(settings.database, engine=settings.engine) as store:
        redriven = redrive(store, fills_outbox=bool(settings.forward), dry_run=options.dry_run)
    _print(options, redriven.facts(), _describe_redriven(redriven, dry_run=options.dry_run))


def _sql(options: argparse.Namespace) -> None:
    settings = read_query_settings(os.environ)
    sys.stdout.write(format_answer(query(settings.database, options.query, engine=settings.engine), options.format))


def _read_settings() -> Settings:
    settings = read_settings(os.environ)
    configure_logs(job="log_consumer", level=settings.log_level)
    return settings


@contextmanager
def _stopped_by(number: signal.Signals) -> Iterator[threading.Event]:
    """An event that the signal sets; what it did before, it does again afterwards."""
    stop = threading.Event()
    before = signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(number, before)


@contextmanager
def _progress() -> Iterator[job.Watch]:
    """What to tell of each batch: a terminal shows it, anything else does not."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    progress = Progress(sys.stderr)
    try:
        yield progress.show
    finally:
        progress.end()


def _print(options: argparse.Namespace, facts: dict[str, object], text: str) -> None:
    sys.stdout.write(json.dumps(facts) + "\n" if options.json else text)


def _describe(summary: job.Summary, settings: Settings) -> str:
    rows = summary.rows
    text = (
        f"{summary.loaded_count:,} messages loaded into {settings.database}: {rows['exposures']:,} exposures, "
        f"{rows['fallthrough_exposures']:,} fall-throughs, {rows['resolve_counts']:,} resolve counts\n"
    )
    if rows["deployments"]:
        text += f"{rows['deployments']:,} deployments recorded\n"
    if summary.duplicate_count:
        text += f"{summary.duplicate_count:,} redelivered messages ignored\n"
    if summary.dead_letter_count:
        text += f"{summary.dead_letter_count:,} of all came from the dead-letter queue\n"
    if summary.rejected_count:
        text += f"{summary.rejected_count:,} messages rejected: see `log-consumer sql 'from rejected_messages'`\n"
    if summary.forwarded:
        text += f"{summary.forwarded['forwarded_delivered_count']:,} messages forwarded to Confidence\n"
    if summary.forwarded.get("forwarded_parked_count"):
        text += "Confidence refused some: see `log-consumer sql 'from forwarding'`\n"
    return text


def _describe_redriven(redriven: Redriven, *, dry_run: bool) -> str:
    verb = "could be" if dry_run else "were"
    text = f"{redriven.loaded_count:,} rejected messages {verb} loaded, {redriven.rejected_count:,} stay rejected\n"
    text += "".join(f"  {count:,}: {reason}\n" for reason, count in redriven.reasons.items())
    if redriven.duplicate_count:
        text += f"{redriven.duplicate_count:,} of them had landed already\n"
    if redriven.unparked_count:
        text += f"{redriven.unparked_count:,} parked messages {verb} put up for forwarding again\n"
    return text
