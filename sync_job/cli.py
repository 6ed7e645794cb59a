"""`sync-job`: parses, calls, prints."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flagedge import __version__
from flagedge.cloudflare import Cloudflare
from flagedge.errors import FlagedgeError, LocalError
from flagedge.logs import configure_logs
from sync_job import job
from sync_job.settings import read_log_level, read_state_key, read_sync_settings, read_worker_settings

_EPILOG = """\
Settings come from the environment; README.md lists them.
Exit codes: 0 done or nothing to do, 1 failed (the live Worker is untouched), 2 wrong settings.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code. Errors are one `error:` line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        configure_logs(job="sync_job", level=read_log_level(os.environ))
        return _run(options) if options.command == "run" else _build(options)
    except FlagedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


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
    run.add_argument("--force", action="store_true", help="deploy even if state and settings are those that are live")
    run.add_argument("--json", action="store_true", help="print the result as one JSON object")
    build = commands.add_parser("build", help="compile a state file and write what would be uploaded")
    build.add_argument("--state", type=Path, required=True, metavar="FILE", help="a state as the CDN serves it")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="where metadata.json and the modules go")
    build.add_argument("--etag", default="", help="entity tag of the state (default: made from its content)")
    return parser


def _run(options: argparse.Namespace) -> int:
    settings = read_sync_settings(os.environ)
    with Cloudflare(
        api_token=settings.api_token, account_id=settings.account_id, base_url=settings.api_base_url
    ) as cloudflare:
        if not settings.account_id:
            cloudflare.find_account_id()
        result = job.run(settings, cloudflare, force=options.force)
    if options.json:
        print(json.dumps(result.to_json()))
    elif result.outcome == "unchanged":
        print(f"unchanged: {result.worker_name} serves state {result.etag}")
    else:
        where = result.url or "(no workers.dev subdomain; reach it by a route or a service binding)"
        print(f"deployed: {result.worker_name}, {result.flag_count} flags, state {result.etag}\n{where}")
    return 0


def _build(options: argparse.Namespace) -> int:
    from sync_job.assemble import assemble_upload, digest_settings, write_upload  # noqa: PLC0415 (see job.py)
    from sync_job.compile import compile_plan  # noqa: PLC0415
    from sync_job.decode import decode_state, decrypt_state  # noqa: PLC0415

    settings = read_worker_settings(os.environ)
    state_key = read_state_key(os.environ)
    try:
        data = options.state.read_bytes()
    except OSError as error:
        raise LocalError(f"cannot read {options.state} ({error.strerror})", hint="Check --state") from error
    etag = options.etag or f'"sha256-{hashlib.sha256(data).hexdigest()}"'
    plan = compile_plan(decode_state(decrypt_state(data, state_key) if state_key else data), etag=etag)
    digest = digest_settings(settings, {})
    upload = assemble_upload(plan, settings, settings_digest=digest, namespace_ids=dict(settings.namespaces))
    write_upload(upload, options.out)
    print(
        f"built: {plan.flag_count} flags, {upload.size_bytes} bytes in {len(upload.modules)} modules, in {options.out}"
    )
    return 0
