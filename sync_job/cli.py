"""`sync-job`: parses, calls, prints."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flagedge import __version__
from flagedge.command import exit_code_of
from flagedge.errors import LocalError
from flagedge.logs import configure_logs
from flagedge.settings import Secret
from sync_job.fetch import content_etag
from sync_job.job import RunOptions, RunResult, run
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
    from sync_job.decode import DecodedState

_EPILOG = """\
Settings come from the environment; README.md lists them, `sync-job settings` shows those in force.
Exit codes: 0 done or nothing to do, 1 failed (the live Worker is untouched), 2 wrong settings.
"""
_UNITS_S = {"s": 1, "m": 60, "h": 3600}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code. Errors are one `error:` line on stderr."""
    options = _parser().parse_args(arguments)

    def command() -> int | None:
        configure_logs(job="sync_job", level=read_log_level(os.environ))
        result: int | None = options.function(options)
        return result

    return exit_code_of(command, interrupted="interrupted; run again, every step can be repeated")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sync-job",
        description="Bring Confidence flags to your Cloudflare Worker: fetch the state, compile it, deploy it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="one pass: fetch, compile, deploy; does nothing when nothing changed")
    run.set_defaults(function=_run)
    run.add_argument("--force", action="store_true", help="deploy whatever is live, another account's state too")
    run.add_argument("--adopt", action="store_true", help="detach the Worker that the queue feeds, to pull from it")
    run.add_argument("--every", type=_seconds, metavar="TIME", help="pass after pass, this far apart: 20s, 5m, 1h")
    run.add_argument("--for", dest="lasting", type=_seconds, metavar="TIME", help="with --every: end after this time")
    run.add_argument("--json", action="store_true", help="print the result as one JSON object")

    rollback = commands.add_parser("rollback", help="deploy an earlier state, until the CDN serves a new one")
    rollback.set_defaults(function=_rollback)
    which = rollback.add_mutually_exclusive_group()
    which.add_argument("--to", default="", metavar="ETAG", help="the state (default: the one before what is live)")
    which.add_argument("--clear", action="store_true", help="end a rollback: deploy what the CDN serves")
    rollback.add_argument("--json", action="store_true", help="print the result as one JSON object")

    status = commands.add_parser("status", help="what is live: state, age, versions, token keys, queue backlog")
    status.set_defaults(function=_status)
    status.add_argument("--json", action="store_true", help="print it as one JSON object")

    settings = commands.add_parser("settings", help="every setting in force, where it came from, secrets masked")
    settings.set_defaults(function=_settings)

    keys = commands.add_parser("keys", help="the keys of apply tokens: list, rotate, retire")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the keys that are bound").set_defaults(function=_keys_list)
    actions.add_parser("rotate", help="a fresh key seals, the old ones go on opening").set_defaults(
        function=_keys_rotate
    )
    retire = actions.add_parser("retire", help="remove a key that no token in flight needs")
    retire.set_defaults(function=_keys_retire)
    retire.add_argument("key", help="its id, or its secret's name")
    retire.add_argument("--force", action="store_true", help="also while its tokens may be in use: they fail then")

    explain = commands.add_parser("explain", help="why a flag is what it is for a context, rule by rule")
    explain.set_defaults(function=_explain)
    explain.add_argument("--flag", required=True, help="its name, with or without flags/")
    explain.add_argument(
        "--context", required=True, metavar="JSON", help="the evaluation context, as a client sends it"
    )
    explain.add_argument("--client", default="", help="whose flags: a client's or a credential's name (default: ours)")
    source = explain.add_mutually_exclusive_group()
    source.add_argument("--state", type=Path, metavar="FILE", help="a state as the CDN serves it (default: fetched)")
    source.add_argument("--etag", default="", help="the entity tag of a state that was deployed, from the archive")
    explain.add_argument("--json", action="store_true", help="print it as one JSON object")

    types = commands.add_parser("types", help="TypeScript types of the flags, for Workers that bind them")
    types.set_defaults(function=_types)
    types.add_argument("--state", type=Path, metavar="FILE", help="a state as the CDN serves it (default: fetched)")
    types.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write, such as flags.d.ts")

    build = commands.add_parser("build", help="compile a state file and write what would be uploaded")
    build.set_defaults(function=_build)
    build.add_argument("--state", type=Path, required=True, metavar="FILE", help="a state as the CDN serves it")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="where metadata.json and the modules go")
    build.add_argument("--etag", default="", help="entity tag of the state (default: made from its content)")
    return parser


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smh])", text)
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a time such as 20s, 5m or 1h")
    return float(int(match[1]) * _UNITS_S[match[2]])


@contextmanager
def _open_account() -> Iterator[tuple[SyncSettings, WorkersApi]]:
    settings = read_sync_settings(os.environ)
    with open_api(settings) as api:
        api.find_account_id()
        yield settings, api


def _run(options: argparse.Namespace) -> int | None:
    with _open_account() as (settings, api):
        run_options = RunOptions(force=options.force, adopt=options.adopt)
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
        run_options = RunOptions(resume=True) if options.clear else RunOptions(rollback_to=options.to)
        _print_result(run(settings, api, run_options), as_json=options.json)


def _print_result(result: RunResult, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.to_json()), flush=True)
        return
    where = result.url or "(not on workers.dev; reach it by a route or a service binding)"
    share = f", {result.share:g} % of the traffic" if result.share < 100 else ""
    over = f" (rolled back from {result.rolled_back_from})" if result.rolled_back_from else ""
    said = {
        "unchanged": f"unchanged: {result.worker_name} serves state {result.etag}{over}",
        "deployed": (
            f"deployed: {result.worker_name}, {result.flag_count} flags, state {result.etag}{over}{share}\n{where}"
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
    from sync_job.compile import compile_plan  # noqa: PLC0415
    from sync_job.evaluate import evaluate  # noqa: PLC0415
    from sync_job.explain import explain  # noqa: PLC0415
    from sync_job.plan import load_plan  # noqa: PLC0415
    from sync_job.values import read_context  # noqa: PLC0415

    decoded, etag, secret = _read_archived(options.etag) if options.etag else _read_state(options.state)
    compiled = compile_plan(decoded, etag=etag)
    plan = load_plan(compiled.text, compiled.bits)
    named = {"name": options.client} if options.client else {"secret": secret} if secret else {}
    credential = plan.find_credential(**named)
    evaluation = evaluate(plan, options.flag, read_context(options.context), credential=credential, is_traced=True)
    print(json.dumps(evaluation.to_json()) if options.json else explain(evaluation))


def _read_archived(etag: str) -> tuple[DecodedState, str, Secret]:
    """As `_read_state`, a state that was deployed."""
    from sync_job.archive import load_state  # noqa: PLC0415

    with _open_account() as (settings, api):
        archived = load_state(settings, api, etag)
    return archived.decoded, archived.etag, settings.client_secret


def _read_state(path: Path | None) -> tuple[DecodedState, str, Secret]:
    """A state from a file or the CDN, its entity tag, and the secret of the client that it was fetched for."""
    from sync_job.decode import decode_state, decrypt_state  # noqa: PLC0415
    from sync_job.fetch import fetch_state, find_state_url  # noqa: PLC0415

    if path is not None:
        key, data, secret = read_state_key(os.environ), _read_file(path), Secret("")
        etag = content_etag(data)
    else:
        settings = read_sync_settings(os.environ)
        fetched = fetch_state(find_state_url(settings))
        assert fetched is not None  # no entity tag was sent, so the answer is no 304
        key, data, etag, secret = settings.state_key, fetched.data, fetched.etag, settings.client_secret
    return decode_state(decrypt_state(data, key) if key else data), etag, secret


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
