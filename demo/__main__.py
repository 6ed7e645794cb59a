"""The demo, top to bottom: a state is published, synced, resolved by thousands of visitors, drained and queried.

Everything is real but Cloudflare and the CDN, for which `local_edge` stands in: the commands are the ones that an
operator runs, the Worker runs on workerd, the exposures lie in DuckDB.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import shop
from operators import operator_environ
from rich.console import Console
from rich.progress import track
from rich.table import Table

from flagedge.errors import FlagedgeError
from local_edge.server import LocalEdge

FOLDER = Path("build/demo")
DATABASE = FOLDER / "exposures.duckdb"
REPORT = FOLDER / "report.html"
VISITORS = 3000
CONNECTIONS = 8
ALONE = 300
LOCAL_EDGE_CF_HEADER = "x-local-edge-cf"
LINGER_S = 1.0
COMMANDS = Path(sys.executable).parent
QUERIES = (
    "select * from exposures_by_variant",
    "select country, count(distinct targeting_key) as visitors from exposures group by country order by visitors desc",
    "select date_trunc('second', applied_at) as second, count(*) as exposures from exposures group by 1 order by 1",
)

_console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the demo; the exit code."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        with LocalEdge(dir=FOLDER / "edge") as edge:
            _play(edge)
    except FlagedgeError as error:
        _console.print(f"[red]error:[/] {error}")
        return error.exit_code
    return 0


def _play(edge: LocalEdge) -> None:
    environ = _environ(edge)
    _step("A Cloudflare account on loopback", f"REST API {edge.api_url}, state CDN {edge.cdn_url}")
    edge.publish_state(shop.WEB_SECRET, shop.shop_payload())

    _step("First sync", "fetch the shop's state, compile it, deploy Worker and plan")
    deployed = _command(environ, "sync-job", "run", "--json")
    _say_deployed(deployed)
    url = edge.worker_url(deployed["worker_name"])

    _step("Visitors", f"{VISITORS} of them resolve all flags at {url}")
    _resolve_visitors(url)

    _step("Drain", "from the queue into DuckDB, exactly once")
    time.sleep(LINGER_S)
    drained = _command(environ, "log-consumer", "drain", "--json")
    _console.print(
        f"  {drained['loaded_count']} messages: {drained['exposures_rows']} exposures, "
        f"{drained['fallthrough_exposures_rows']} fall-throughs; "
        f"{drained['duplicate_count']} duplicates, {drained['rejected_count']} rejected"
    )
    _show_shares(environ)

    _step("Health", "are the units shared out as the state says? one page, with the SQL of each figure")
    written = _command(environ, "log-consumer", "report", "--out", str(REPORT), "--json")
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(written["verdicts"].items()))
    _console.print(f"  {sum(written['verdicts'].values())} experiments ({verdicts}): open {REPORT}")

    _step("A changed state", "the checkout split becomes 20/30/50 and live chat is launched")
    visitor = next(iter(shop.visitors(1, seed=7)))
    before = _variants(url, visitor)
    edge.publish_state(shop.WEB_SECRET, shop.changed_shop_payload())
    _say_deployed(_command(environ, "sync-job", "run", "--json"))
    _show_changes(before, _variants(url, visitor), visitor["visitor_id"])

    _step("An unchanged state", "two requests, nothing written")
    unchanged = _command(environ, "sync-job", "run", "--json")
    _console.print(f"  {unchanged['outcome']}: still {unchanged['etag'][:14]}…  (the CDN answered 304)")

    _step("Now yours", f"the exposures are in {DATABASE}; three queries to try")
    for query in QUERIES:
        _console.print(
            f'  DATABASE={DATABASE} {COMMANDS.relative_to(Path.cwd())}/log-consumer sql "{query}"', soft_wrap=True
        )


def _environ(edge: LocalEdge) -> dict[str, str]:
    """The settings of an operator, pointing at loopback."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TERM"}}
    accounts = httpx.get(f"{edge.api_url}/accounts", headers={"authorization": "Bearer demo"}).json()["result"]
    return (
        kept
        | operator_environ(edge, shop.WEB_SECRET)
        | {
            "CLOUDFLARE_ACCOUNT_ID": accounts[0]["id"],
            "DATABASE": str(DATABASE),
            "LOG_LEVEL": "warning",
        }
    )


def _step(title: str, what: str) -> None:
    _console.print(f"\n[bold cyan]{title}[/]  [dim]{what}[/]")


def _command(environ: Mapping[str, str], name: str, *arguments: str) -> dict[str, Any]:
    """Run one of our commands as an operator would; its JSON result. A failure ends the demo with its message."""
    _console.print(f"  [dim]$[/] {name} {' '.join(arguments)}")
    began = time.perf_counter()
    done = subprocess.run([COMMANDS / name, *arguments], env=dict(environ), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FlagedgeError(f"{name} {' '.join(arguments)} failed: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    _console.print(f"    [dim]{time.perf_counter() - began:.2f} s[/]")
    return result


def _say_deployed(result: Mapping[str, Any]) -> None:
    _console.print(
        f"  {result['outcome']}: {result['worker_name']}, {result['flag_count']} flags, "
        f"{result['upload_bytes'] / 1000:.0f} kB, state {result['etag'][:14]}…"
    )


def _resolve_visitors(url: str) -> None:
    visitors = list(shop.visitors(VISITORS))
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    with httpx.Client(base_url=url, limits=limits, timeout=10) as client, ThreadPoolExecutor(CONNECTIONS) as pool:
        alone = [_timed_resolve(client, context) for context in visitors[:ALONE]]
        began = time.perf_counter()
        others = pool.map(lambda context: _timed_resolve(client, context), visitors[ALONE:])
        count = sum(1 for _ in track(others, "  resolving", total=VISITORS - ALONE, console=_console, transient=True))
        rate = count / (time.perf_counter() - began)
    cuts = quantiles(alone, n=100)
    _console.print(
        f"  one after another: median {cuts[49]:.2f} ms, 99th percentile {cuts[98]:.2f} ms; "
        f"on {CONNECTIONS} connections: {rate:.0f} a second (both bounded by the client, which is Python)"
    )


def _timed_resolve(client: httpx.Client, context: Mapping[str, Any]) -> float:
    began = time.perf_counter()
    _resolve(client, context, apply=True)
    return (time.perf_counter() - began) * 1000


def _resolve(client: httpx.Client, context: Mapping[str, Any], *, apply: bool) -> list[dict[str, Any]]:
    answer = client.post(
        "/v1/flags:resolve",
        json={"clientSecret": shop.WEB_SECRET, "evaluationContext": context, "apply": apply},
        headers={LOCAL_EDGE_CF_HEADER: json.dumps({"country": context["country"]})},
    )
    if answer.status_code != httpx.codes.OK:
        raise FlagedgeError(f"the Worker answered {answer.status_code}: {answer.text}")
    flags: list[dict[str, Any]] = answer.json()["resolvedFlags"]
    return flags


def _variants(url: str, context: Mapping[str, Any]) -> dict[str, str]:
    with httpx.Client(base_url=url, timeout=10) as client:
        return {flag["flag"]: flag.get("variant", "(none)") for flag in _resolve(client, context, apply=False)}


def _show_shares(environ: Mapping[str, str]) -> None:
    rows = _query(
        environ, "select flag, rule, variant, count(distinct targeting_key) as visitors from exposures group by all"
    )
    through = _query(
        environ, "select rule, count(distinct targeting_key) as visitors from fallthrough_exposures group by all"
    )
    expected = shop.expected_shares()
    totals: dict[str, int] = {row["rule"]: row["visitors"] for row in through}
    for row in rows:
        totals[row["rule"]] = totals.get(row["rule"], 0) + row["visitors"]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, justify in (("flag", "left"), ("rule", "left"), ("variant", "left")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for title in ("visitors", "share", "expected"):
        table.add_column(title, justify="right")
    for row in sorted(rows, key=lambda row: (row["flag"], row["rule"], row["variant"] or "")):
        share = expected.get((row["flag"], row["rule"], row["variant"]))
        table.add_row(
            _last(row["flag"]), _last(row["rule"]), _last(row["variant"] or "(default)"), str(row["visitors"]),
            f"{row['visitors'] / totals[row['rule']]:.1%}", "" if share is None else f"{share:.1%}",
        )  # fmt: skip
    _console.print(table)


def _show_changes(before: Mapping[str, str], after: Mapping[str, str], visitor: str) -> None:
    for flag in sorted(before.keys() | after.keys()):
        old, new = _last(before.get(flag, "")), _last(after.get(flag, ""))
        if old != new:
            _console.print(f"  {visitor}: {_last(flag)} [yellow]{old}[/] → [green]{new}[/]")


def _query(environ: Mapping[str, str], sql: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [COMMANDS / "log-consumer", "sql", "--format", "json", sql],
        env=dict(environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise FlagedgeError(f"log-consumer sql failed: {done.stderr.strip()}")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


if __name__ == "__main__":
    sys.exit(main())
