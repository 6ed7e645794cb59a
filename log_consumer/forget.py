"""`log-consumer forget`: erases units wherever this deployment has them.

    drain, redrive        what is queued or was rejected becomes rows, as far as it can
    erase                 rows, outbox, rejected messages, in one transaction
    rewrite               deleted is not gone: a file is written anew; a lake's files too, and the old ones are deleted
    delete_sticky_keys    sticky assignments in Cloudflare KV

Each step does nothing when it is repeated, so a run that was killed is simply run again. Units are never logged.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import duckdb
import structlog

from flagedge.errors import LocalError, SettingsError
from log_consumer import job
from log_consumer.clock import utc_now
from log_consumer.cut import cut_units, holds_unit
from log_consumer.engine import quote
from log_consumer.load import make_stage
from log_consumer.maintain import Maintained, clean_lake
from log_consumer.privacy import HMAC, KeyPolicy, read_key_checks
from log_consumer.redrive import load_rejected
from log_consumer.rewrite import rewrite_file
from log_consumer.settings import Settings
from log_consumer.sticky import Keys, delete_sticky_keys, find_sticky_keys
from log_consumer.store import Store

SQL = Path(__file__).parent / "sql" / "forget"
FETCHED_BODIES = 100
# Everything is older than tomorrow: no snapshot of a lake and no file is kept for those who read it now.
TOMORROW = timedelta(days=1)

log = structlog.stdlib.get_logger()


class Account(job.Account, Keys, Protocol):
    """What is needed of Cloudflare; `flagedge.cloudflare.Cloudflare` is one."""


@dataclass(slots=True)
class Forgotten:
    """What was erased, or would be. `rows` by table; `other_key_count` are keys whose hashes were not looked for."""

    unit_count: int
    drained_count: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    outbox_message_count: int = 0
    rejected_message_count: int = 0
    sticky_key_count: int = 0
    other_key_count: int = 0

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def forget(
    settings: Settings,
    account: Account,
    units: set[str],
    *,
    keeps_sticky: bool = False,
    dry_run: bool = False,
    stop: threading.Event | None = None,
) -> Forgotten:
    """Erase the units; `dry_run` only counts, and leaves the queues alone. `keeps_sticky` asks nothing of KV.

    Raises SettingsError when the database holds hashes and the key is not one of theirs, LocalError when `stop` is set
    before the queues are empty, ApiError and LocalError as a drain does; what was erased by then stays erased.
    """
    forgotten, policy = Forgotten(len(units)), settings.key_policy
    if dry_run and isinstance(settings.database, str) and not Path(settings.database).exists():
        raise LocalError(f"there is no database {settings.database}", hint="DATABASE names it")
    namespace_id = None if keeps_sticky else account.find_kv_namespace(settings.sticky_namespace_title)
    with Store(settings.database, engine=settings.engine) as store:
        is_latest_key = _check_key(store, policy, forgotten)
        if is_latest_key and not dry_run:
            forgotten.drained_count = _drain(settings, account, store, stop or threading.Event())
            load_rejected(store, fills_outbox=bool(settings.forward), policy=policy)
        else:
            make_stage(store.connection)
        erase(store, units, policy, forgotten, dry_run=dry_run)
        if not dry_run:
            _rewrite(store)
    if store.is_lake and not dry_run:
        # In another store, for the one before remembers bounds of columns, and would write them down again.
        with Store(settings.database, engine=settings.engine) as store:
            clean_lake(store, Maintained(), older_than=utc_now() + TOMORROW)
    if namespace_id is not None:
        keys = find_sticky_keys(account, namespace_id, units)
        forgotten.sticky_key_count = len(keys)
        if not dry_run:
            delete_sticky_keys(account, namespace_id, keys)
    digests = sorted(sha256(unit.encode()).hexdigest()[:8] for unit in units)
    log.info("units.forgotten", dry_run=dry_run, unit_digests=digests, **forgotten.facts())
    return forgotten


def erase(store: Store, units: set[str], policy: KeyPolicy, forgotten: Forgotten, *, dry_run: bool) -> None:
    """Delete the rows of these units, cut them out of what waits; or count only. Relies on load.make_stage()."""
    hashes = [policy.hash_unit(unit) for unit in units] if policy.hash_key else []
    with store.transaction() as connection:
        for table in _find_tables(connection):
            count = _erase_rows(connection, table, [*units, *hashes], dry_run=dry_run)
            if count:
                forgotten.rows[table] = count
        forgotten.outbox_message_count = _cut_outbox(connection, units, dry_run=dry_run)
        forgotten.rejected_message_count = _erase_rejected(connection, units, dry_run=dry_run)


def _check_key(store: Store, policy: KeyPolicy, forgotten: Forgotten) -> bool:
    """Whether rows that are loaded now are stored under the latest key, or plain."""
    with store.transaction(merge=False) as connection:
        known = read_key_checks(connection)
    if known and not policy.hash_key:
        problem = f"{store.database} holds hashes of units: TARGETING_KEY_HASH_KEY is needed to find them"
        raise SettingsError([problem])
    if known and policy.key_check not in known:
        raise SettingsError([f"TARGETING_KEY_HASH_KEY is none of the keys that {store.database} was filled with"])
    forgotten.other_key_count = len(set(known) - {policy.key_check}) if known else 0
    return policy.name != HMAC or not known or policy.key_check == known[-1]


def _drain(settings: Settings, account: Account, store: Store, stop: threading.Event) -> int:
    """Empty both queues into the store, without forwarding: what is to be forgotten is not told to Confidence."""
    summary = job.Summary()
    drain = job.Drain(settings, account, store, summary, stop=stop)
    if account.find_queue(settings.queue_name) is not None:
        drain.flag_logs()
    drain.dead_letters()
    if stop.is_set():
        raise LocalError("stopped before the queues were drained, and nothing was erased", hint="Run this again")
    return summary.message_count


# --- in the tables ---------------------------------------------------------------------------------------------------


def _find_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Those that hold units: by their columns, so that none that is added later is forgotten."""
    rows = connection.execute(
        "select table_name from duckdb_tables() semi join "
        "(from duckdb_columns() where column_name = 'targeting_key') using (database_name, schema_name, table_name) "
        "where database_name = 'store' order by table_name"
    ).fetchall()
    return [str(name) for (name,) in rows]


def _erase_rows(connection: duckdb.DuckDBPyConnection, table: str, stored: Sequence[str], *, dry_run: bool) -> int:
    verb = "select count(*)" if dry_run else "delete"
    statement = f'{verb} from "{table}" where targeting_key in (select unnest($1::varchar[]))'
    return int(connection.execute(statement, [stored]).fetchall()[0][0])


def _cut_outbox(connection: duckdb.DuckDBPyConnection, units: set[str], *, dry_run: bool) -> int:
    found = connection.execute(_read_sql("outbox"), {"units": list(units)}).fetchall()
    if found and not dry_run:
        cut = [{"isolate": isolate, "seq": seq, "text": cut_units(text, units)} for isolate, seq, text in found]
        connection.execute(_read_sql("cut"), {"messages": json.dumps(cut)})
    return len(found)


def _erase_rejected(connection: duckdb.DuckDBPyConnection, units: set[str], *, dry_run: bool) -> int:
    """Whole: what this version cannot read it cannot cut."""
    found = [message_id for message_id, text in _read_rejected(connection) if holds_unit(text, units)]
    if found and not dry_run:
        connection.execute(
            "delete from rejected_messages where message_id in (select unnest($1::varchar[]))", [found]
        ).fetchall()
    return len(found)


def _read_rejected(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str]]:
    bodies = connection.execute("select message_id, body, content_type from rejected_messages where body is not null")
    while rows := bodies.fetchmany(FETCHED_BODIES):
        yield from ((message_id, _unpack(body, content_type)) for message_id, body, content_type in rows)


def _unpack(body: str, content_type: str) -> str:
    """The text of a body; all but text comes as base64, or as it is.

    Other than UTF-8 it may be what JavaScript serialized (v8), whose strings are of either coding that is tried here.
    """
    if content_type == "text":
        return body
    try:
        content = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        return body
    text = content.decode("utf-8", "replace")
    if "\0" not in text and "\ufffd" not in text:
        return text
    return "\n".join([text, content.decode("latin-1"), *(content[at:].decode("utf-16-le", "replace") for at in (0, 1))])


# --- in the bytes ----------------------------------------------------------------------------------------------------


def _rewrite(store: Store) -> None:
    """Leave nothing of what was deleted, now or earlier, in a file that is read from now on."""
    with store.hold() as connection:
        if not store.is_lake:
            rewrite_file(connection, str(store.database))
            return
        # Rows are fetched, for a lake is only changed with the last one.
        connection.execute("call ducklake_flush_inlined_data('store')").fetchall()
        connection.execute("call ducklake_rewrite_data_files('store', delete_threshold => 0)").fetchall()
        connection.execute(
            f"call postgres_execute('__ducklake_metadata_store', {quote(_read_sql('bounds'))})"
        ).fetchall()


@cache
def _read_sql(name: str) -> str:
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


# --- in words --------------------------------------------------------------------------------------------------------


def describe_forgotten(forgotten: Forgotten, *, dry_run: bool) -> str:
    """What was erased where, a line each; of whom is not said."""
    counts = forgotten.rows | {
        "messages in the outbox": forgotten.outbox_message_count,
        "rejected messages": forgotten.rejected_message_count,
        "sticky assignments": forgotten.sticky_key_count,
    }
    verb = "would be erased" if dry_run else "erased"
    text = f"{forgotten.unit_count:,} units: {'nothing to erase' if not any(counts.values()) else verb}\n"
    text += "".join(f"  {count:,} {what}\n" for what, count in counts.items() if count)
    if forgotten.drained_count:
        text += f"{forgotten.drained_count:,} messages were drained first\n"
    if dry_run:
        text += "Messages in the queues were not looked at\n"
    if forgotten.other_key_count:
        text += f"{forgotten.other_key_count:,} other hash keys were in use: run this again with each\n"
    return text
