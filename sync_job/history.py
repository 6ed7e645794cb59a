"""`sync-job history`: what was deployed, refused or taken back, when, by whom and why.

Out of log_consumer's database, which has the records of all runs everywhere; or out of the archive's copies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from flagedge.errors import LocalError
from sync_job.archive_store import Store
from sync_job.database import Database
from sync_job.recorder import read_archived_records
from sync_job.records import Record

_FLAGS = "flags/"


def read_history(*, database: Database | None, store: Store | None, flag: str, last: int) -> list[dict[str, Any]]:
    """The last records, the newest first, as plain data; where a flag is named (`flags/` may be left off), those of it.

    Raises FlagedgeError where there is neither database nor store, or what there is cannot be read.
    """
    flag = flag if not flag or flag.startswith(_FLAGS) else _FLAGS + flag
    if database is not None:
        return database.read_records(flag=flag, last=last)
    if store is None:
        raise LocalError(
            "there is nothing to read records from",
            hint="Name the consumer's database with --database, or set STATE_ARCHIVE",
        )
    found = (_plain(record) for record in read_archived_records(store))
    if flag:
        found = (record | {"changes": of_flag} for record in found if (of_flag := _changes_of(flag, record)))
    return [record for _, record in zip(range(last), found, strict=False)]


def _changes_of(flag: str, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A flag's own changes, and those of clients, which may concern it."""
    return [change for change in record["changes"] if change["flag"] in {flag, ""}]


def _plain(record: Record) -> dict[str, Any]:
    """The same keys as a row of `deployments`."""
    told = asdict(record.deployment)
    times = {name: _iso(told.pop(f"{name}_ms")) for name in ("started_at", "finished_at")}
    return {
        "record_id": record.record_id,
        "state_etag": record.state_etag,
        "worker_version": record.worker_version,
        **told,
        **times,
        "changes": [dict(change) for change in record.changes],
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_history(records: Iterable[Mapping[str, Any]]) -> str:
    """For people."""
    return "\n".join(line for record in records for line in _lines(record)) or "nothing was recorded"


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    by = f", {record['actor']}" if record["actor"] else ""
    before = f" after {record['previous_state_etag']}" if record["previous_state_etag"] else ""
    what = f"{record['outcome']}  state {record['state_etag']}{before}"
    yield f"{record['finished_at'][:19]}Z  {what} ({record['trigger']}{by})"
    for label in ("why", "reason"):
        if record[label]:
            yield f"  {label}: {record[label]}"
    for change in record["changes"]:
        place = change["rule"] or change["flag"] or "clients"
        yield f"  {place}: {change['text']}"
