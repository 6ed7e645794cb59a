"""The command `log-consumer`: parses, calls, prints.

    drain   load the flag-logs queue into the database until it is empty
    sql     ask the database

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
from flagedge.errors import FlagedgeError
from flagedge.logs import configure_logs
from log_consumer import job
from log_consumer.query import FORMATS, format_answer, query
from log_consumer.settings import read_query_settings, read_settings


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        if arguments.command == "drain":
            _drain(as_json=arguments.json)
        else:
            settings = read_query_settings(os.environ)
            sys.stdout.write(format_answer(query(settings.database, arguments.query), arguments.format))
    except FlagedgeError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return exc.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; what was not acked is delivered again\n")
        return 130
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="log-consumer", description="Flag logs from the queue into DuckDB.")
    commands = parser.add_subparsers(dest="command", required=True)
    drain = commands.add_parser("drain", help="load the flag-logs queue into the database until it is empty")
    drain.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    sql = commands.add_parser("sql", help="ask the database, read-only")
    sql.add_argument("query", help="SQL; docs and `show tables` say what there is")
    sql.add_argument("--format", choices=FORMATS, default="table")
    return parser.parse_args(argv)


def _drain(*, as_json: bool) -> None:
    settings = read_settings(os.environ)
    configure_logs(job="log_consumer", level=settings.log_level)
    client = Cloudflare(api_token=settings.api_token, account_id=settings.account_id, base_url=settings.api_base_url)
    with client as cloudflare, _stopped_by(signal.SIGTERM) as stop:
        summary = job.run(settings, cloudflare, stop=stop)
    if as_json:
        sys.stdout.write(json.dumps(summary.facts() | {"database": settings.database}) + "\n")
    else:
        sys.stdout.write(_describe(summary, settings.database))


@contextmanager
def _stopped_by(number: signal.Signals) -> Iterator[threading.Event]:
    """An event that the signal sets; what it did before, it does again afterwards."""
    stop = threading.Event()
    before = signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(number, before)


def _describe(summary: job.Summary, database: str) -> str:
    rows = summary.rows
    text = (
        f"{summary.loaded_count:,} messages loaded into {database}: {rows['exposures']:,} exposures, "
        f"{rows['fallthrough_exposures']:,} fall-throughs, {rows['resolve_counts']:,} resolve counts\n"
    )
    if summary.duplicate_count:
        text += f"{summary.duplicate_count:,} redelivered messages ignored\n"
    if summary.rejected_count:
        text += f"{summary.rejected_count:,} messages rejected: see `log-consumer sql 'from rejected_messages'`\n"
    return text
