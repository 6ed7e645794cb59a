"""`make bench-drain`: the consumer against a `local-edge` in its own process; docs/benchmarks.md explains.

In one run, on one core each: the consumer as it is started (HTTP, decode, row check, commit and ack included), the
emulator's ceiling (pull and ack of the same messages, loading nothing), and the floor: DuckDB's `read_json` of the same
messages from memory into the same tables, without queue, checks or ledger look-ups. Row counts are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import httpx

from bench.drain_peers import Measured, measure_apart, pull_and_ack, read_json_into_tables
from bench.flag_logs import SHAPES, Shape, make_messages
from flagedge.cloudflare import Cloudflare
from flagedge.settings import Secret
from log_consumer.load import ROW_TABLES
from log_consumer.settings import QUEUE, Settings

TOKEN = "bench"
COMMANDS = Path(sys.executable).parent
TARGET_PER_CPU_S = 5_000
TARGET_SHAPE = "50 exposures"
# What a queue takes in one call.
PUSH_COUNT, PUSH_BYTES = 100, 240_000
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Drained:
    """What a consumer's process did and took, from its start to its end; `rows` by table."""

    rows: dict[str, int]
    cpu_s: float
    peak_mb: float


class Bench:
    """A queue in an emulator that runs in its own process, and the commands that empty it."""

    def __init__(self, api_url: str, account_id: str, directory: Path) -> None:
        self._api_url = api_url
        self._account_id = account_id
        self._directory = directory
        self._file_count = 0
        with Cloudflare(api_token=Secret(TOKEN), account_id=account_id, base_url=api_url) as cloudflare:
            self._queue_id = cloudflare.create_queue(QUEUE).queue_id
            cloudflare.create_pull_consumer(self._queue_id)

    def fill(self, texts: Sequence[str], form: str) -> None:
        """Send over HTTP, as many at once as a queue takes; upstream's as the official Worker does."""
        content_type = "json" if form == "upstream" else "text"
        url = f"{self._api_url}/accounts/{self._account_id}/queues/{self._queue_id}/messages/batch"
        count = max(1, min(PUSH_COUNT, PUSH_BYTES // max(map(len, texts))))
        with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as http:
            for at in range(0, len(texts), count):
                batch = [{"body": text, "content_type": content_type} for text in texts[at : at + count]]
                http.post(url, json={"messages": batch}).raise_for_status()

    def drain(self) -> Drained:
        """Run `log-consumer drain` once, into a new database, whose rows are counted."""
        database = self._new_file("duckdb")
        environ = {
            "PATH": os.environ["PATH"],
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_ACCOUNT_ID": self._account_id,
            "CLOUDFLARE_API_BASE_URL": self._api_url,
            "DATABASE": str(database),
            "LOG_LEVEL": "warning",
            # The roll of first exposures is no draining; bench-analytics measures it.
            "ROLL_EXPOSURES": "maintain",
        }
        with _pinned(1):
            process = subprocess.Popen([COMMANDS / "log-consumer", "drain"], env=environ, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return Drained(_count_rows(database), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)

    def measure_ceiling(self) -> Measured[int]:
        with _pinned(1):
            return measure_apart(pull_and_ack, self._api_url, self._account_id, self._queue_id)

    def measure_floor(self, texts: Sequence[str], form: str) -> Measured[dict[str, int]]:
        """The messages as files in memory, each as large as a batch."""
        per_file = Settings(Secret(TOKEN)).batch_max_bytes * len(texts) // sum(map(len, texts))
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as memory, _pinned(1):
            files = []
            for at in range(0, len(texts), per_file):
                files.append(Path(memory) / f"{at}.ndjson")
                files[-1].write_text("\n".join(texts[at : at + per_file]))
            return measure_apart(read_json_into_tables, str(self._new_file("duckdb")), form, files)

    def _new_file(self, suffix: str) -> Path:
        self._file_count += 1
        return self._directory / f"{self._file_count}.{suffix}"


@contextmanager
def run_edge(directory: Path) -> Iterator[tuple[str, str]]:
    """A `local-edge` in its own process: the URL of its API and the account's id."""
    command = [
        str(COMMANDS / "local-edge"),
        "up",
        "--dir",
        str(directory),
        "--port",
        "0",
        "--worker-port",
        "0",
        "--json",
    ]
    with _pinned(0):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            addresses = json.loads(process.stdout.readline())
            yield addresses["api"], addresses["account_id"]
        finally:
            process.terminate()


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    """What is started meanwhile stays on one core, where the machine can be told so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[core % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _count_rows(database: Path) -> dict[str, int]:
    if not database.exists():
        return dict.fromkeys([*ROW_TABLES, "ledger"], 0)
    with duckdb.connect(str(database), read_only=True) as connection:
        return {
            table: connection.execute(f"select count(*) from {table}").fetchall()[0][0]
            for table in [*ROW_TABLES, "ledger"]
        }


def measure(bench: Bench, shape: Shape, count: int, start_up_s: float) -> None:
    """Print one shape's figures."""
    texts = list(make_messages(shape, count, random.Random()))
    megabytes = sum(map(len, texts)) / 1e6
    bench.fill(texts[: count // 10], shape.form)
    small = bench.drain()
    bench.fill(texts, shape.form)
    ceiling = bench.measure_ceiling()
    bench.fill(texts, shape.form)
    drained = bench.drain()
    floor = bench.measure_floor(texts, shape.form)
    cpu_s = drained.cpu_s - start_up_s
    rows = sum(drained.rows.values())
    print(f"\n{shape.name}: {count:,} messages of {megabytes * 1e6 / count:,.0f} bytes, {rows / count:.0f} rows each")
    print(f"  rows as sent, and as many as the floor's: {_is_complete(drained.rows, shape, count, floor)}")
    per_s = count / cpu_s
    target = f"target {TARGET_PER_CPU_S:,}{'' if per_s >= TARGET_PER_CPU_S else ', MISSED'}"
    _print("messages per CPU-second", per_s, target if shape.name == TARGET_SHAPE else "")
    _print("  start-up included", count / drained.cpu_s)
    _print("  floor: read_json", count / floor.cpu_s, f"ours {floor.cpu_s / cpu_s:.2f} x")
    _print("  pull and ack, loading nothing", count / ceiling.cpu_s)
    _print("MB of pull text per CPU-second", ceiling.result / 1e6 / cpu_s, f"{megabytes / cpu_s:,.0f} of messages")
    _print("rows per CPU-second", rows / cpu_s)
    _print("emulator's ceiling, messages per s", count / ceiling.wall_s)
    _print("peak memory, MB", drained.peak_mb, f"{small.peak_mb:,.0f} with a tenth of the messages")


def _print(figure: str, value: float, remark: str = "") -> None:
    print(f"  {figure:36} {value:12,.0f}   {remark}".rstrip())


def _is_complete(rows: dict[str, int], shape: Shape, count: int, floor: Measured[dict[str, int]]) -> bool:
    return rows == floor.result and (rows["exposures"], rows["ledger"]) == (count * shape.exposure_count, count)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the consumer against DuckDB's own reading of the messages.")
    parser.add_argument("--megabytes", type=int, default=320, help="of messages for each shape (%(default)s)")
    parser.add_argument("--only", default="", help="the shapes whose name has this text")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory, run_edge(Path(directory) / "edge") as (api_url, account_id):
        bench = Bench(api_url, account_id, Path(directory))
        start_up_s = bench.drain().cpu_s
        print(f"start-up: {start_up_s:.2f} CPU-seconds, left out below unless said")
        for shape in [shape for shape in SHAPES if options.only in shape.name]:
            sample = next(make_messages(shape, 1, random.Random()))
            measure(bench, shape, options.megabytes * 1_000_000 // len(sample), start_up_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
