"""The command `local-edge`: parses, calls, prints. Exit 0 done, 1 failed, 2 wrong arguments."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from flagedge.errors import FlagedgeError, SettingsError

DEFAULT_PORT = 8780
DEFAULT_WORKER_PORT = 8787
DEFAULT_DIRECTORY = Path("build/local-edge")
EPILOG = """\
examples:
  local-edge up
  CLOUDFLARE_API_BASE_URL=http://127.0.0.1:8780/client/v4 CLOUDFLARE_API_TOKEN=any sync-job run
  local-edge serve build/worker --port 8787 --secret FLAGS_KEY=...
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    stopped = threading.Event()
    # Handlers, not a blocked mask: workerd would inherit a mask and never see its SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        run_up(options, stopped) if options.command == "up" else run_serve(options, stopped)
    except FlagedgeError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return exc.exit_code
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="local-edge",
        description="A Cloudflare account on this machine: the REST API, queues, KV and real workerd processes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="serve an account until stopped (SIGINT or SIGTERM)")
    up.add_argument("--dir", type=Path, default=DEFAULT_DIRECTORY, help="where its state is kept (%(default)s)")
    up.add_argument("--port", type=_port, default=DEFAULT_PORT, help="of the REST API and the CDN (%(default)s)")
    up.add_argument(
        "--worker-port", type=_port, default=DEFAULT_WORKER_PORT, help="of the first Worker deployed (%(default)s)"
    )
    up.add_argument("--api-token", default="", metavar="TOKEN", help="the only API token let in (default: any)")
    up.add_argument("--json", action="store_true", help="print the addresses as one JSON object")
    serve = commands.add_parser("serve", help="run one built Worker until stopped")
    serve.add_argument("worker", type=Path, metavar="DIR", help="what `sync-job build` wrote")
    serve.add_argument("--port", type=_port, default=DEFAULT_WORKER_PORT, help="of the Worker (%(default)s)")
    serve.add_argument("--var", action="append", default=[], metavar="K=V", help="set or replace a variable")
    serve.add_argument("--secret", action="append", default=[], metavar="K=V", help="set or replace a secret")
    serve.add_argument("--etag", metavar="E", help="set RESOLVER_STATE_ETAG")
    for command in (up, serve):
        command.add_argument(
            "--workerd", type=Path, metavar="PATH", help="(default: $WORKERD, worker/node_modules, PATH)"
        )
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 65_536:
        raise ValueError
    return port


def run_up(options: argparse.Namespace, stopped: threading.Event) -> None:
    from local_edge.server import LocalEdge  # noqa: PLC0415 - --help stays quick

    edge = LocalEdge(
        dir=options.dir, workerd=options.workerd, port=options.port, worker_port=options.worker_port,
        api_token=options.api_token,
    )  # fmt: skip
    with edge:
        workers = {name: edge.worker_url(name) for name in edge.edge.scripts.names()}
        addresses = {
            "api": edge.api_url,
            "account_id": edge.edge.account_id,
            "cdn": edge.cdn_url,
            "worker": f"http://127.0.0.1:{options.worker_port}" if options.worker_port else "",
            "workers": workers,
        }
        if options.json:
            print(json.dumps(addresses), flush=True)
        else:
            lines = [f"API     {edge.api_url} (account {edge.edge.account_id})", f"CDN     {edge.cdn_url}"]
            lines += [f"Worker  {url} ({name})" for name, url in workers.items()]
            print("\n".join(lines), flush=True)
        stopped.wait()


def run_serve(options: argparse.Namespace, stopped: threading.Event) -> None:
    from local_edge.serve import ETAG_NAME, read_worker  # noqa: PLC0415 - --help stays quick
    from local_edge.server import LocalEdge  # noqa: PLC0415 - --help stays quick

    variables = _read_pairs(options.var, "--var")
    if options.etag is not None:
        variables[ETAG_NAME] = options.etag
    worker = read_worker(options.worker, variables=variables, secrets=_read_pairs(options.secret, "--secret"))
    with LocalEdge(workerd=options.workerd) as edge:
        port = edge.serve(worker, options.port)
        print(f"ready http://127.0.0.1:{port}", flush=True)
        stopped.wait()


def _read_pairs(items: Sequence[str], option: str) -> dict[str, str]:
    if not all(item.partition("=")[0] and "=" in item for item in items):
        raise SettingsError([f"{option} takes NAME=VALUE"])
    return dict(item.split("=", 1) for item in items)


if __name__ == "__main__":
    sys.exit(main())
