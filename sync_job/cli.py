"""`sync-job`: parses, calls, prints."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flagedge.command import exit_code_of
from flagedge.errors import LocalError
from flagedge.logs import configure_logs
from flagedge.settings import Secret
from sync_job.arguments import make_parser
from sync_job.fetch import content_etag
from sync_job.job import RunOptions, RunResult, run
from sync_job.live import read_live_worker
from sync_job.occasion import Cause, find_actor
from sync_job.settings import (
    SyncSettings,
    describe_settings,
    read_log_level,
    read_state_key,
    read_sync_settings,
    read_worker_settings,
)
from sync_job.workers_api import WorkersApi, open_api

if TYPE_CHECKING:
    from sync_job.database import Database
    from sync_job.decode import DecodedState


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code. Errors are one `error:` line on stderr."""
    options = make_parser().parse_args(arguments)

    def command() -> int | None:
        configure_logs(job="sync_job", level=read_log_level(os.environ))
        return _FUNCTIONS[options.function](options)

    return exit_code_of(command, interrupted="interrupted; run again, every step can be repeated")


@contextmanager
def _open_account() -> Iterator[tuple[SyncSettings, WorkersApi]]:
    settings = read_sync_settings(os.environ)
    with open_api(settings) as api:
        api.find_account_id()
        yield settings, api


def _run(options: argparse.Namespace) -> int | None:
    with _open_account() as (settings, api):
        is_asked = options.force or options.adopt or options.approve
        cause = Cause("command", find_actor()) if is_asked else Cause()
        run_options = RunOptions(force=options.force, adopt=options.adopt, approve=options.approve, cause=cause)
        if options.every is None:
            _print_result(run(settings, api, run_options), as_json=options.json)
            return None
        from sync_job.repeat import run_repeatedly  # noqa: PLC0415

        return run_repeatedly(
            lambda: _print_result(run(settings, api, run_options), as_json=options.json),
            every_s=options.every,
            lasting_s=options.lasting,
        )


def _rollback(options: argparse.Namespace) -> None:
    with _open_account() as (settings, api):
        cause = Cause("rollback", find_actor())
        how = {"resume": True} if options.clear else {"rollback_to": options.to}
        run_options = RunOptions(**how, cause=cause)
        _print_result(run(settings, api, run_options), as_json=options.json)


def _override(options: argparse.Namespace) -> None:
    from sync_job.override import clear_overrides, list_overrides, set_override  # noqa: PLC0415

    is_set = bool(options.variant or options.off)
    if is_set and not (options.flag and options.why):
        options.parser.error("an override needs a FLAG and --why")
    if options.clear and bool(options.flag) == options.all:
        options.parser.error("--clear needs a FLAG or --all")
    with _open_account() as (settings, api):
        if options.list:
            overrides = list_overrides(settings, api)
            lines = [override.to_text() for override in overrides] or ["no flag is overridden"]
            print(json.dumps([each.to_json() for each in overrides]) if options.json else "\n".join(lines))
            return
        if options.clear:
            result = clear_overrides(settings, api, options.flag, why=options.why)
        else:
            result = set_override(
                settings, api, options.flag, variant=options.variant, why=options.why, lasting_s=options.lasting
            )
    _print_result(result, as_json=options.json)


def _diff(options: argparse.Namespace) -> None:
    from sync_job.compare import compare  # noqa: PLC0415

    old, new = _read_named(options.old, is_live=True), _read_named(options.new, is_live=False)
    database = _name_database(options)
    seen = database.read_seen_units() if database else None
    comparison = compare(old, new, unit_count=options.units, seen=seen)
    print(json.dumps(comparison.to_json()) if options.json else comparison.to_text())


def _name_database(options: argparse.Namespace) -> Database | None:
    from sync_job.database import Database  # noqa: PLC0415

    return Database(options.database, os.environ) if options.database else None


def _read_named(name: str, *, is_live: bool) -> tuple[str, DecodedState]:
    """A state by file or entity tag; without a name what is live, or what the CDN serves."""
    from sync_job.archive import load_state  # noqa: PLC0415

    if (name and Path(name).exists()) or not (name or is_live):
        decoded, etag, _ = _read_state(Path(name) if name else None)
        return etag, decoded
    with _open_account() as (settings, api):
        name = name or read_live_worker(api, settings.worker.worker_name).etag
        if not name:
            raise LocalError("no state is live", hint="Name one with --from")
        archived = load_state(settings, api, name)
    return archived.etag, archived.decoded


def _history(options: argparse.Namespace) -> None:
    from sync_job.history import format_history, read_history  # noqa: PLC0415
    from sync_job.recorder import open_records  # noqa: PLC0415

    database, store = _name_database(options), None
    if database is None:
        with _open_account() as (settings, api):
            store = open_records(settings, api)
    records = read_history(database=database, store=store, flag=options.flag, last=options.last)
    print(json.dumps(records) if options.json else format_history(records))


def _print_result(result: RunResult, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.to_json()), flush=True)
        return
    where = result.url or "(not on workers.dev; reach it by a route or a service binding)"
    share = f", {result.share:g} % of the traffic" if result.share < 100 else ""
    over = f" (rolled back from {result.rolled_back_from})" if result.rolled_back_from else ""
    over += f" (overridden: {', '.join(result.overridden)})" if result.overridden else ""
    said = {
        "unchanged": f"unchanged: {result.worker_name} serves state {result.etag}{over}",
        "deployed": (
            f"deployed: {result.worker_name}, {result.flag_count} flags, state {result.etag}{over}{share}\n{where}"
        ),
        "published": (
            f"published: {result.worker_name}, {result.flag_count} flags, state {result.etag}{over}, "
            "served by every Worker within a minute or two"
        ),
        "stepped": f"stepped: the new version of {result.worker_name} has {result.share:g} % of the traffic",
        "checked": f"checked: state {result.etag}, {result.flag_count} flags, could be deployed (NO_DEPLOY is set)",
        "held": f"left alone: another run is deploying {result.worker_name}",
    }
    print(said[result.outcome], flush=True)


def _status(options: argparse.Namespace) -> None:
    from sync_job.status import format_status, read_status  # noqa: PLC0415

    with _open_account() as (settings, api):
        status = read_status(settings, api)
    print(json.dumps(status.to_json()) if options.json else format_status(status))


def _purge(options: argparse.Namespace) -> None:
    from sync_job.purge import purge_pages  # noqa: PLC0415

    if not (options.prefix or options.tag or options.everything):
        options.parser.error("say what: --prefix, --tag or --everything")
    settings = read_sync_settings(os.environ)
    with open_api(settings) as api:
        purge_pages(settings, api, prefixes=options.prefix, tags=options.tag, everything=options.everything)
    print("purged")


def _settings(_options: argparse.Namespace) -> int:
    in_force, problems = describe_settings(os.environ)
    width = max(len(setting.name) for setting in in_force)
    for setting in in_force:
        print(f"{setting.name:{width}}  {setting.value or '(none)'}  [{setting.source}]")
    for problem in problems:
        print(f"wrong: {problem}", file=sys.stderr)
    return 2 if problems else 0


def _keys_list(_options: argparse.Namespace) -> None:
    from sync_job.keys import list_keys  # noqa: PLC0415
    from sync_job.status import describe_key  # noqa: PLC0415

    with _open_account() as (settings, api):
        keys = list_keys(settings, api)
    for key in reversed(keys):
        print(describe_key(key, seals=key is keys[-1]))
    if not keys:
        print("no token key is bound; the next run makes one")


def _keys_rotate(_options: argparse.Namespace) -> None:
    from sync_job.keys import rotate_key  # noqa: PLC0415

    with _open_account() as (settings, api):
        _print_result(rotate_key(settings, api), as_json=False)


def _keys_retire(options: argparse.Namespace) -> None:
    from sync_job.keys import retire_key  # noqa: PLC0415

    with _open_account() as (settings, api):
        key = retire_key(settings, api, options.key, force=options.force)
    print(f"retired: {key.kid or key.name}")


def _types(options: argparse.Namespace) -> None:
    from sync_job.types import write_types  # noqa: PLC0415

    decoded, etag, _ = _read_state(options.state)
    text = write_types(decoded, etag=etag)
    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LocalError(f"cannot write {options.out} ({error.strerror})", hint="Choose another --out") from error
    print(f"written: {options.out}")


def _explain(options: argparse.Namespace) -> None:
    from sync_job.explanation import explain_flag, fetch_target, load_target  # noqa: PLC0415
    from sync_job.override_state import OverriddenState  # noqa: PLC0415

    if options.state is not None:
        decoded, etag, secret = _read_state(options.state)
        target, worker = OverriddenState(etag, decoded), read_worker_settings(os.environ)
    else:
        with _open_account() as (settings, api):
            target = load_target(settings, api, options.etag) if options.etag else fetch_target(settings, api)
        secret, worker = settings.client_secret, settings.worker
    explanation = explain_flag(
        target,
        options.flag,
        options.context,
        client=options.client,
        client_secret=secret,
        has_materializations=worker.has_materializations,
    )
    print(json.dumps(explanation.to_json()) if options.json else explanation.to_text())


def _read_state(path: Path | None) -> tuple[DecodedState, str, Secret]:
    """A state from a file or the CDN, its entity tag, and the secret of the client that it was fetched for."""
    from sync_job.candidate import fetch_candidate  # noqa: PLC0415
    from sync_job.decode import decode_state, decrypt_state  # noqa: PLC0415
    from sync_job.fetch import find_state_url  # noqa: PLC0415

    if path is None:
        settings = read_sync_settings(os.environ)
        candidate = fetch_candidate(find_state_url(settings), settings.state_key)
        return candidate.decoded, candidate.etag, settings.client_secret
    key, data = read_state_key(os.environ), _read_file(path)
    return decode_state(decrypt_state(data, key) if key else data), content_etag(data), Secret("")


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LocalError(f"cannot read {path} ({error.strerror})", hint="Check --state") from error


def _build(options: argparse.Namespace) -> None:
    from sync_job.assemble import (  # noqa: PLC0415 (see job.py)
        DeployedFacts,
        assemble_upload,
        digest_settings,
        namespace_bindings,
        write_upload,
    )
    from sync_job.compile import compile_plan  # noqa: PLC0415
    from sync_job.decode import decode_state, decrypt_state  # noqa: PLC0415

    settings = read_worker_settings(os.environ)
    state_key = read_state_key(os.environ)
    data = _read_file(options.state)
    etag = options.etag or content_etag(data)
    plan = compile_plan(decode_state(decrypt_state(data, state_key) if state_key else data), etag=etag)
    facts = DeployedFacts(digest_settings(settings, {}))
    upload = assemble_upload(plan, settings, facts=facts).with_bindings(namespace_bindings(dict(settings.namespaces)))
    write_upload(upload, options.out)
    print(
        f"built: {plan.flag_count} flags, {upload.size_bytes} bytes in {len(upload.modules)} modules, in {options.out}"
    )


_FUNCTIONS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {
    "run": _run,
    "rollback": _rollback,
    "override": _override,
    "status": _status,
    "diff": _diff,
    "history": _history,
    "explain": _explain,
    "purge": _purge,
    "settings": _settings,
    "keys list": _keys_list,
    "keys rotate": _keys_rotate,
    "keys retire": _keys_retire,
    "types": _types,
    "build": _build,
}
