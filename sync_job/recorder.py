"""Publishing deployment records: to the flag-logs queue, to the log, and as a copy to the archive."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import structlog

from flagedge.errors import FlagedgeError
from sync_job.archive_store import Store, open_store
from sync_job.records import Record, read_record, write_messages
from sync_job.settings import SyncSettings
from sync_job.workers_api import WorkersApi

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Recorder:
    """Tells what a run did; nothing that goes wrong here ends a run."""

    api: WorkersApi
    queue_name: str
    store: Store | None

    def publish(self, record: Record) -> bool:
        """Whether the record is in the queue. Safe to repeat: the consumer takes the same record once."""
        facts = {
            "record_id": record.record_id,
            "state_etag": record.state_etag,
            **asdict(record.deployment),
            "change_count": len(record.changes),
            "allocation_count": len(record.allocations),
        }
        self._keep(record)
        try:
            queue = self.api.find_queue(self.queue_name)
            if queue is None:
                _log.warning("deployment.unrecorded", **facts, error=f"there is no queue {self.queue_name}")
                return False
            for message in write_messages(record):
                self.api.send_message(queue.queue_id, message)
        except FlagedgeError as error:
            _log.warning("deployment.unrecorded", **facts, error=str(error))
            return False
        _log.info("deployment.recorded", **facts)
        return True

    def _keep(self, record: Record) -> None:
        if self.store is None:
            return
        try:
            self.store.write(record.record_id, json.dumps(record.to_json()).encode())
        except FlagedgeError as error:
            _log.warning("record.not_archived", error=str(error))


def open_records(settings: SyncSettings, api: WorkersApi) -> Store | None:
    """Where copies of this Worker's records lie; None where no archive is kept."""
    below = (api.find_account_id(), settings.worker.worker_name, "records")
    return open_store(settings.archive, below=below, suffix=".json")


def read_archived_records(store: Store) -> list[Record]:
    """All that can be read, the newest first. Raises ArchiveError where the store cannot be used."""
    records = []
    for record_id, _ in store.list_names():
        data = store.read(record_id)
        try:
            records.append(read_record(data or b""))
        except (ValueError, TypeError, KeyError):
            _log.warning("record.unreadable", record_id=record_id)
    return sorted(records, key=lambda record: record.deployment.finished_at_ms, reverse=True)
