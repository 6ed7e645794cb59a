"""`make bench-analytics`: every view over up to 100 million exposures; docs/benchmarks.md explains.

Exposures are made in the database itself: five for each unit, each of one of 20 rules, over two weeks and two states,
of which the second shares out one rule otherwise. They are rolled as a drain rolls, in transactions of its size, but
for what the last two hold, which stays open: a drain leaves more open only while a queue is full. Each view is asked in
a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path

import duckdb

from bench.report import Figure, describe_machine
from log_consumer.engine import Engine
from log_consumer.rolls import OPEN_MAX, OPEN_MIN, OPEN_SHARE, read_open_roll, roll_if_due
from log_consumer.store import Reader, Store

RULE_COUNT = 20
# What a drain loads in a transaction, roughly.
BATCH_ROWS = 1_000_000
VIEWS = sorted(path.stem for path in (Path(__file__).parents[1] / "log_consumer/sql/views").glob("*.sql"))
# DuckDB keeps of a file what it has room for; what it needs is less.
MEMORY_LIMIT = "3GB"
HEALTH, HEALTH_MAX_S, HEALTH_MAX_GB = "experiment_health", 10.0, 4.0
BEGIN = datetime(2026, 11, 1)  # noqa: DTZ001 - the database's timestamps are UTC without saying so

ALLOCATE = """
insert into allocations by name
select
    'record-' || epoch as record_id, timestamp '2026-11-01' + to_days(epoch * 7) as allocated_at,
    'state-' || epoch as state_etag, 'flags/storefront-feature-' || rule as flag, flag || '/rules/r' as rule,
    'segments/s' as segment, 'visitor_id' as targeting_key_selector, 'variant' as kind,
    flag || '/variants/' || assignment as variant, variant as assignment_id,
    if(rule = 0 and epoch = 0, if(assignment = 'control', 0.9, 0.1), 0.5) as share
from range($rules) as rules(rule), range(2) as epochs(epoch), unnest(['control', 'treatment']) as named(assignment)
"""
EXPOSE = """
insert into exposures by name
select
    timestamp '2026-11-01' + to_microseconds((number / $exposures * 1_209_600_000_000)::bigint) as applied_at,
    'flags/storefront-feature-' || unit % $rules as flag,
    flag || '/rules/r' as rule,
    flag || '/variants/' || if(
        hash(unit) % 100 < if(unit % $rules = 0 and number < $exposures // 2, 90, 50), 'control', 'treatment'
    ) as variant,
    'segments/s' as segment,
    variant as assignment_id,
    md5(unit::varchar) as targeting_key,
    'visitor_id' as targeting_key_selector,
    'MATCH' as reason,
    false as is_default,
    md5(number::varchar) as resolve_id,
    'clients/' || ['web', 'app'][1 + (unit % 2)::integer] as client,
    'clients/web/clientCredentials/k' as client_credential,
    'api' as source,
    'SDK_ID_JS_CONFIDENCE' as sdk,
    '0.2.1' as sdk_version,
    ['SE', 'DE', 'US', 'FR', 'BR'][1 + (hash(unit, 1) % 5)::integer] as country,
    hash(unit, 2) % 100 = 0 as is_bot,
    'state-' || if(number < $exposures // 2, 0, 1) as state_etag,
    '0.1.0' as worker_version,
    applied_at as received_at,
    'isolate-' || number % 40 as isolate,
    number // 40 // 50 as seq,
    applied_at + interval 2 seconds as landed_at,
    $roll as roll
from (
    -- Every fifth is of a new unit, the others of any that came before.
    select number, if(number % 5 = 0, number // 5, (hash(number) % (number // 5 + 1)::ubigint)::bigint) as unit
    from range($since, $until) as numbers(number)
)
"""
LEDGER = """
insert into ledger by name
select
    isolate, seq, 'flagedge/1' as format, count(*) as row_count, 0 as dropped_count,
    any_value(state_etag) as state_etag, '0.1.0' as worker_version, max(applied_at) as sent_at,
    max(landed_at) as landed_at, 0 as duplicate_count, 4000 as bytes
from exposures
group by isolate, seq
"""
COUNT = """
insert into resolve_counts by name
select
    timestamp '2026-11-01' + to_minutes(number // 40) as sent_at, 'clients/web' as client,
    'flags/storefront-feature-' || number % $rules as flag, 'match' as kind, 'MATCH' as reason,
    flag || '/rules/r' as rule,
    flag || '/variants/control' as variant, variant as assignment_id, 50 as resolve_count, 'state-0' as state_etag,
    'isolate-' || number % 40 as isolate, number // 40 as seq
from range($exposures // 50) as numbers(number)
"""
MEASURE = """
insert into telemetry by name
select
    timestamp '2026-11-01' + to_minutes(number // 40) as sent_at, 50 as resolve_count, 0 as error_count,
    45000 as latency_sum_us, 50 as latency_count, '{"36":10,"38":20,"41":15,"52":5}' as latency_buckets,
    '0.1.0' as worker_version, 'isolate-' || number % 40 as isolate, number // 40 as seq
from range($exposures // 500) as numbers(number)
"""


def make_database(path: str, exposure_count: int) -> tuple[float, float]:
    """Fill a new database; seconds of all, and of the rolls among them."""
    started_s, roll_s = time.monotonic(), 0.0
    numbers = {"rules": RULE_COUNT, "exposures": exposure_count}
    with Store(path) as store:
        with store.transaction(merge=False) as connection:
            connection.execute("set enable_progress_bar = false")
            for statement in (ALLOCATE, COUNT, MEASURE):
                _execute(connection, statement, **numbers)
        for since in range(0, exposure_count, BATCH_ROWS):
            until = min(since + BATCH_ROWS, exposure_count)
            with store.transaction(merge=False) as connection:
                roll = read_open_roll(connection)
                _execute(connection, EXPOSE, **numbers, since=since, until=until, roll=roll)
                roll_started_s = time.monotonic()
                if until < exposure_count:
                    roll_if_due(connection, roll, now=BEGIN)
                roll_s += time.monotonic() - roll_started_s
        with store.transaction(merge=False) as connection:
            _execute(connection, LEDGER)
    return time.monotonic() - started_s, roll_s


def _execute(connection: duckdb.DuckDBPyConnection, statement: str, **values: object) -> None:
    connection.execute(statement, {key: value for key, value in values.items() if f"${key}" in statement})


def ask(path: str, view: str) -> tuple[float, float]:
    """Read a whole view, as a table or chart would, and throw the rows away: seconds, and GB of memory at the peak."""
    engine = Engine(memory_limit=MEMORY_LIMIT, temp_directory=f"{path}.tmp")
    with Reader(path, engine=engine) as reader, reader.look() as connection:
        started_s = time.monotonic()
        connection.execute("set enable_progress_bar = false")
        connection.execute(f"create temp table temp.asked as select count(columns(*)) from {view}")
        return time.monotonic() - started_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def apart(work: Callable[..., tuple[float, float]], *arguments: str | int) -> tuple[float, float]:
    """In a process of its own; this one stays small, for a process begins with the peak of the one that started it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(work, *arguments).result()


def measure(path: Path, exposure_count: int, views: Sequence[str]) -> bool:
    """Print the figures of one size; whether the health of experiments came in time."""
    total_s, roll_s = apart(make_database, str(path), exposure_count)
    print(f"\n{exposure_count:,} exposures, made in {total_s:.0f} s; rolls took {roll_s:.1f} s of it")
    print(f"  a roll at {OPEN_SHARE:.0%} of the units, between {OPEN_MIN:,} and {OPEN_MAX:,} rows")
    print(f"  file: {path.stat().st_size / 1e6:,.0f} MB")
    is_reached = True
    for view in views:
        seconds, gigabytes = apart(ask, str(path), view)
        is_target = view == HEALTH and exposure_count == 100_000_000
        is_small = gigabytes <= HEALTH_MAX_GB
        memory = f"{gigabytes:.2f} GB" + (f" ≤ {HEALTH_MAX_GB:g}{'' if is_small else ' MISSED'}" if is_target else "")
        figure = Figure(view, seconds, "s", at_most=HEALTH_MAX_S if is_target else None, note=memory)
        print(figure, flush=True)
        is_reached &= not is_target or (is_small and not figure.is_missed)
    return is_reached


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the views on made-up exposures.")
    parser.add_argument("--millions", type=int, nargs="*", default=[1, 10, 100], help="of exposures (%(default)s)")
    parser.add_argument("--only", nargs="*", default=VIEWS, help="the views to ask")
    parser.add_argument("--dir", type=Path, help="where the databases are made; a temporary folder")
    options = parser.parse_args(arguments)
    print(describe_machine())
    reached = []
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        for millions in options.millions:
            path = Path(directory) / f"{millions}.duckdb"
            reached.append(measure(path, millions * 1_000_000, options.only))
            path.unlink()
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
