"""`make bench-lake`: one consumer and four on a lake, in a folder and on moto's S3; docs/benchmarks.md explains.

The catalogue is a real Postgres, the queue a `local-edge` in its own process. All of them share the machine, so
messages per second say as much of it as of the consumers; per CPU-second of the consumers they do not. Start-up is left
out of both. Beside them a DuckDB file, drained by one.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from aws import start_moto
from boto3.session import Session
from postgres import PASSWORD, Postgres

from bench.drain import COMMANDS, TOKEN, Bench, run_edge
from bench.flag_logs import SHAPES, make_messages
from log_consumer.databases import S3, Database, Lake
from log_consumer.query import query

SHAPE = next(shape for shape in SHAPES if shape.name == "50 exposures")
AWS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true"}
REGION = "eu-west-1"


def drain(database: Database, api_url: str, account_id: str, *, processes: int) -> tuple[float, float]:
    """Run so many consumers until the queue is empty: seconds until the last has ended, and of CPU, of all."""
    environ = AWS | {
        "PATH": os.environ["PATH"],
        "CLOUDFLARE_API_TOKEN": TOKEN,
        "CLOUDFLARE_ACCOUNT_ID": account_id,
        "CLOUDFLARE_API_BASE_URL": api_url,
        "DATABASE": str(database),
        "LOG_LEVEL": "warning",
    }
    if isinstance(database, Lake):
        environ |= {"DATABASE_PASSWORD": PASSWORD, "LAKE_DATA_PATH": database.data_path}
        environ |= {"AWS_ENDPOINT_URL": database.s3.endpoint, "AWS_REGION": REGION}
    started_s, cpu_s = time.monotonic(), 0.0
    command = [COMMANDS / "log-consumer", "drain"]
    running = [subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) for _ in range(processes)]
    for process in running:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        cpu_s += usage.ru_utime + usage.ru_stime
    return time.monotonic() - started_s, cpu_s


def measure(bench: Bench, place: str, database: Database, at: tuple[str, str], *, processes: int, count: int) -> None:
    """Print one figure; the first drain makes the tables, and is what starting takes."""
    drain(database, *at, processes=1)
    start_up_s, start_up_cpu_s = drain(database, *at, processes=processes)
    bench.fill(list(make_messages(SHAPE, count, random.Random())), SHAPE.form)
    seconds, cpu_s = drain(database, *at, processes=processes)
    ((messages, rows),) = query(database, "select (select count(*) from ledger), count(*) from exposures").rows
    assert (messages, rows) == (count, count * SHAPE.exposure_count)
    per_s, per_cpu_s = count / (seconds - start_up_s), count / (cpu_s - start_up_cpu_s)
    print(f"  {place:16} {processes} at once {per_s:8,.0f} messages/s {per_cpu_s:8,.0f} per CPU-second")


@contextmanager
def open_places(directory: Path) -> Iterator[Mapping[str, list[Database]]]:
    """Where to write: by name, a database for each number of consumers."""
    postgres = Postgres()
    s3 = S3(f"http://127.0.0.1:{start_moto()}", REGION)
    buckets = Session("bench", "bench").client("s3", endpoint_url=s3.endpoint, region_name=REGION)
    buckets.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": REGION})
    os.environ.update(AWS)  # for the questions that this process asks
    try:
        yield {
            "file": [str(directory / "exposures.duckdb")],
            "lake, folder": [postgres.make_lake(directory / f"lake-{number}") for number in range(2)],
            "lake, moto's S3": [replace(postgres.make_lake(f"s3://lake/{number}"), s3=s3) for number in range(2)],
        }
    finally:
        postgres.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure consumers that share a lake.")
    parser.add_argument("--messages", type=int, default=20_000, help="of 50 exposures each (%(default)s)")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as directory,
        run_edge(Path(directory) / "edge") as at,
        open_places(Path(directory)) as places,
    ):
        bench = Bench(*at, Path(directory))
        print(f"{options.messages:,} messages of {SHAPE.exposure_count} exposures")
        for place, databases in places.items():
            for processes, database in zip((1, 4), databases, strict=False):
                measure(bench, place, database, at, processes=processes, count=options.messages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
