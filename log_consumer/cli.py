"""The command `log-consumer`: parses, calls, prints.

    drain     load the flag-logs queue into the database until it is empty
    run       the same, for ever
    redrive   try again what was rejected, or parked
    sql       ask the database
    check     what is wrong with experiments and delivery
    report    the same and more as a page, with charts
    maintain  throw away what is too old, and put what is left in order
    export    write the tables as Parquet files
    restore   read those into a database without rows
    forget    erase units everywhere
    accept-key  go on with another key of units' hashes

Exit 0 done, 1 failed (or, of check, a check did), 2 wrong settings; a failure is one `error:` line on stderr. SIGTERM
ends a drain early and well: what was pulled is loaded and acked first.
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
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from flagedge.alert import send_alert
from flagedge.cloudflare import Cloudflare
from flagedge.command import exit_code_of
from flagedge.errors import SettingsError
from flagedge.logs import configure_logs
from log_consumer import job
from log_consumer.check import find_failed, tell_new
from log_consumer.clock import utc_now
from log_consumer.cut import as_stored
from log_consumer.export import export
from log_consumer.forget import describe_forgotten, forget
from log_consumer.maintain import describe_maintained, maintain
from log_consumer.privacy import accept_key
from log_consumer.progress import Progress
from log_consumer.query import FORMATS, format_answer, query
from log_consumer.redrive import Redriven, redrive
from log_consumer.report.write import describe_reported, report
from log_consumer.restore import describe_restored, restore
from log_consumer.settings import Settings, read_query_settings, read_settings
from log_consumer.store import Reader, Store


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    arguments = _parse(argv)

    def command() -> int | None:
        code: int | None = arguments.function(arguments)
        return code

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
    keep = commands.add_parser("maintain", help="throw away what is too old, and put what is left in order")
    keep.set_defaults(function=_maintain)
    keep.add_argument("--rewrite", action="store_true", help="write a DuckDB file anew, however little was deleted")
    copy = commands.add_parser("export", help="write the tables as Parquet files, one a day")
    copy.set_defaults(function=_export)
    copy.add_argument("--parquet", required=True, metavar="DIR", help="where to: a folder, or s3://BUCKET/PREFIX")
    copy.add_argument("--since", type=date.fromisoformat, metavar="DAY", help="leave out the days before it")
    copy.add_argument("--tables", type=_split, default=(), help="tables and views, with commas; all tables by default")
    back = commands.add_parser("restore", help="read what export wrote into a database without rows")
    back.set_defaults(function=_restore)
    back.add_argument("--parquet", required=True, metavar="DIR", help="where from: a folder, or s3://BUCKET/PREFIX")
    for each in (drain, run, again, keep, copy, back):
        each.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    erase = commands.add_parser("forget", help="erase units wherever this deployment has them")
    erase.set_defaults(function=_forget)
    erase.add_argument("--unit", action="append", default=[], metavar="U", help="a unit; may be given several times")
    erase.add_argument("--from-file", metavar="FILE", help="units, one a line; - is stdin, which no process list shows")
    erase.add_argument("--keep-sticky", action="store_true", help="leave KV alone: no sticky assignments are in use")
    erase.add_argument("--dry-run", action="store_true", help="only count what would be erased")
    erase.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    key = commands.add_parser("accept-key", help="go on with another TARGETING_KEY_HASH_KEY than before")
    key.set_defaults(function=_accept_key)
    sql = commands.add_parser("sql", help="ask the database, read-only")
    sql.set_defaults(function=_sql)
    sql.add_argument("query", help="SQL; docs and `show tables` say what there is")
    sql.add_argument("--format", choices=FORMATS, default="table")
    check = commands.add_parser("check", help="say what is wrong with experiments and delivery; exit 1 if it is")
    check.set_defaults(function=_check)
    check.add_argument("--strict", action="store_true", help="exit with 1 for a warning too")
    check.add_argument("--json", action="store_true", help="print the findings as one JSON list")
    page = commands.add_parser("report", help="write the health of every experiment as one HTML page")
    page.set_defaults(function=_report)
    page.add_argument("--out", required=True, metavar="FILE", help="where to; what was there is replaced at once")
    page.add_argument("--rule", metavar="R", help="one experiment alone, such as flags/F/rules/R")
    page.add_argument(
        "--since", type=_parse_time, metavar="T", help="leave out experiments without exposures since then (UTC)"
    )
    page.add_argument("--json", action="store_true", help="print the summary as one JSON object")
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
        redriven = redrive(
            store, fills_outbox=bool(settings.forward), policy=settings.key_policy, dry_run=options.dry_run
        )
    _print(options, redriven.facts(), _describe_redriven(redriven, dry_run=options.dry_run))


def _sql(options: argparse.Namespace) -> None:
    settings = read_query_settings(os.environ)
    answer = query(settings.database, options.query, engine=settings.engine, analysis=settings.analysis)
    sys.stdout.write(format_answer(answer, options.format, to_terminal=sys.stdout.isatty()))


def _check(options: argparse.Namespace) -> int:
    settings = read_query_settings(os.environ)
    configure_logs(job="log_consumer", level="warning")
    with Reader(settings.database, engine=settings.engine, analysis=settings.analysis) as reader:
        findings = find_failed(reader)
    if settings.alert_url:
        with Store(settings.database, engine=settings.engine) as store:
            tell_new(store, findings, partial(send_alert, settings.alert_url), now=utc_now())
    text = json.dumps([finding.to_json() for finding in findings]) + "\n" if options.json else None
    sys.stdout.write(text or "".join(f"{finding}\n" for finding in findings))
    return int(any(options.strict or finding.status == "alarm" for finding in findings))


def _report(options: argparse.Namespace) -> None:
    settings = read_query_settings(os.environ)
    with Reader(settings.database, engine=settings.engine, analysis=settings.analysis) as reader:
        done = report(reader, settings.database, options.out, rule=options.rule, since=options.since, now=utc_now())
    _print(options, done.facts(), describe_reported(done, options.out))


def _read_settings() -> Settings:
    settings = read_settings(os.environ)
    configure_logs(job="log_consumer", level=settings.log_level)
    return settings


def _maintain(options: argparse.Namespace) -> None:
    settings = read_query_settings(os.environ)
    with Store(settings.database, engine=settings.engine) as store:
        done = maintain(store, retention_days=settings.retention_days, now=utc_now(), rewrite=options.rewrite)
    _print(options, done.facts(), describe_maintained(done, settings.database))


def _export(options: argparse.Namespace) -> None:
    settings = read_query_settings(os.environ)
    with Reader(settings.database, engine=settings.engine) as reader:
        done = export(reader, options.parquet, tables=options.tables, since=options.since, s3=settings.s3)
    text = "".join(f"{name}: {count:,} rows\n" for name, count in done.rows.items())
    _print(options, done.facts(), f"{text}{done.file_count:,} files written below {options.parquet}\n")


def _restore(options: argparse.Namespace) -> None:
    settings = read_query_settings(os.environ)
    with Store(settings.database, engine=settings.engine) as store:
        done = restore(store, options.parquet, now=utc_now(), s3=settings.s3)
    _print(options, done.facts(), describe_restored(done, options.parquet, settings.database))


def _forget(options: argparse.Namespace) -> None:
    settings, units = _read_settings(), _read_units(options)
    client = Cloudflare(api_token=settings.api_token, account_id=settings.account_id, base_url=settings.api_base_url)
    with client as cloudflare, _stopped_by(signal.SIGTERM) as stop:
        forgotten = forget(
            settings, cloudflare, units, keeps_sticky=options.keep_sticky, dry_run=options.dry_run, stop=stop
        )
    _print(options, forgotten.facts(), describe_forgotten(forgotten, dry_run=options.dry_run))


def _read_units(options: argparse.Namespace) -> set[str]:
    """The units that are named. Raises SettingsError when there is none, or one is no text."""
    named = list(options.unit)
    if options.from_file:
        try:
            text = sys.stdin.read() if options.from_file == "-" else Path(options.from_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingsError([f"--from-file {options.from_file} cannot be read ({type(exc).__name__})"]) from None
        named += text.splitlines()
    units = set(filter(None, named))
    if not units:
        raise SettingsError(["no unit was named (--unit, or --from-file)"])
    if any(as_stored(unit) != unit for unit in units):
        raise SettingsError(["a unit is not valid UTF-8"])
    return units


def _accept_key(_options: argparse.Namespace) -> None:
    settings = _read_settings()
    with Store(settings.database, engine=settings.engine) as store:
        is_other = accept_key(store, settings.key_policy)
    said = "is the key from now on" if is_other else "is the key in use already"
    sys.stdout.write(f"TARGETING_KEY_HASH_KEY {said}\n")


def _parse_time(text: str) -> datetime:
    """A day or a time of ISO 8601 as UTC, naive; one without an offset is in UTC."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no day or time such as 2026-11-01 or 2026-11-01T06:00Z") from None
    return given.astimezone(UTC).replace(tzinfo=None) if given.tzinfo else given


def _split(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


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
