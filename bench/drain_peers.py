"""What the consumer is held against: the emulator without loading, and DuckDB without the queue."""

from __future__ import annotations

import multiprocessing
import re
import resource
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from flagedge.cloudflare import Cloudflare
from flagedge.settings import Secret
from log_consumer.ack import Acker
from log_consumer.databases import parse_database
from log_consumer.load import ROW_TABLES, clear_stage, execute, make_stage, tables_of
from log_consumer.pull import Puller
from log_consumer.settings import Settings
from log_consumer.store import Store

LANDED_AT = datetime(2026, 11, 21)  # noqa: DTZ001 - as the database has it
LEASE_ID = re.compile(r'"lease_id":"([^"]*)"')
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Measured(Generic[Result]):
    """What a peer answered and took."""

    result: Result
    cpu_s: float
    wall_s: float


def measure_apart(work: Callable[..., Result], *arguments: Any) -> Measured[Result]:
    """Run `work` in a process of its own and time that alone, imports left out."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(_measure, work, *arguments).result()


def _measure(work: Callable[..., Result], *arguments: Any) -> Measured[Result]:
    started_s, started_cpu_s = time.monotonic(), _cpu_s()
    result = work(*arguments)
    return Measured(result, _cpu_s() - started_cpu_s, time.monotonic() - started_s)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def pull_and_ack(api_url: str, account_id: str, queue_id: str) -> int:
    """Empty the queue as the consumer does, but load nothing; how many bytes of text the pulls brought."""
    settings = Settings(Secret("bench"))
    with Cloudflare(api_token=settings.api_token, account_id=account_id, base_url=api_url) as cloudflare:
        timeout_ms = settings.visibility_timeout_ms
        puller = Puller(
            partial(cloudflare.pull_messages, queue_id, visibility_timeout_ms=timeout_ms),
            max_concurrent=settings.max_concurrent_pulls,
            max_bytes=settings.batch_max_bytes,
            max_wait_s=settings.batch_max_wait_ms / 1000,
            stop=threading.Event(),
        )
        acker = Acker(
            lambda lease_ids: cloudflare.ack_messages(queue_id, acks=lease_ids),
            max_concurrent=settings.max_concurrent_pulls,
        )
        text_bytes = 0
        with puller, acker:
            while (gathered := puller.gather()) is not None:
                lease_ids = [lease_id for text in gathered.texts for lease_id in LEASE_ID.findall(text)]
                acker.ack(lease_ids)
                text_bytes += sum(map(len, gathered.texts))
    return text_bytes


def read_json_into_tables(database: str, form: str, files: Sequence[Path]) -> dict[str, int]:
    """One message a line, one transaction a file: the same decoding and tables, and nothing else. Rows by table."""
    rows = dict.fromkeys([*ROW_TABLES, "ledger"], 0)
    with Store(parse_database(database)) as store:
        make_stage(store.connection)
        columns = _columns_of(store, form)
        lines = f"read_json($1, format = 'newline_delimited', columns = {columns})"
        value = "lines as upstream, lines.flagAssigned[1].resolveId as digest" if form == "upstream" else "lines.*"
        read = f"insert into decoded by name select row_number() over () as delivery, '{form}' as form, {value} "
        loadable = {"flag_log": "loadable", "upstream": "loadable_upstream"}[form]
        for file in files:
            clear_stage(store.connection)
            store.connection.execute(f"{read} from {lines} as lines", [str(file)])
            with store.transaction(merge=False) as connection:
                enter = f"insert into ledger (isolate, seq, sent_at) select isolate, seq, sent_at from {loadable}"
                rows["ledger"] += connection.execute(enter).fetchall()[0][0]
                for table in tables_of(form):
                    written = execute(connection, f"{form}/{table}", landed_at=LANDED_AT, roll=1)
                    rows[table] += written.fetchall()[0][0]
    return rows


def _columns_of(store: Store, form: str) -> dict[str, str]:
    """The keys of a message and their types, as the stage has them."""
    if form == "upstream":
        described = "describe select unnest(decode_upstream('{}'))"
    else:
        described = "describe select unnest(decode_message('{}'))"
    return {name: kind for name, kind, *_ in store.connection.execute(described).fetchall()}
