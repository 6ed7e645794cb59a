"""`log_consumer.handler.handler`: one drain as an AWS Lambda function, called by a schedule; or, for the event
`{"command": "maintain"}`, one `log-consumer maintain`.

A drain leaves before Lambda's deadline: then it pulls no more, and what was pulled is loaded and acked first. A
function's disk is not kept, so the database has to be a lake (settings.py refuses a path there).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from flagedge.cloudflare import Cloudflare
from flagedge.errors import FlagedgeError, SettingsError
from flagedge.logs import configure_logs
from flagedge.metrics import embed_metrics
from log_consumer import job
from log_consumer.clock import utc_now
from log_consumer.maintain import maintain
from log_consumer.settings import Settings, read_query_settings, read_settings
from log_consumer.store import Store

HEALTH = Path(__file__).parent / "sql" / "health.sql"
# Kept back from the time that Lambda leaves: to load and ack two batches and to finish a delivery.
MARGIN_S = 30.0


class LambdaContext(Protocol):
    """What is used of the context that Lambda passes."""

    def get_remaining_time_in_millis(self) -> int: ...


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Drain once, or maintain. The summary as a dict; a failure raises, for the schedule's retries and alarms."""
    command = event.get("command")
    if command == "maintain":
        return _maintain()
    if command is not None:
        raise SettingsError([f"the event's command is {command!r}: it must be maintain, or not there, to drain"])
    left_s = context.get_remaining_time_in_millis() / 1000
    log = configure_logs(job="log_consumer", level="info")
    started_s = time.monotonic()
    queue_name = ""
    try:
        settings = read_settings(os.environ)
        queue_name = settings.queue_name
        log = configure_logs(job="log_consumer", level=settings.log_level)
        summary = _drain(settings, left_s)
        health = read_health(settings)
    except FlagedgeError as error:
        measured = embed_metrics(counts={"drain_failed": 1}, dimensions={"queue": queue_name})
        log.error("job.failed", error=str(error), **measured)  # noqa: TRY400 - the message says it all
        raise
    counts = {
        "drain_failed": 0,
        "messages_loaded": summary.loaded_count,
        "messages_duplicate": summary.duplicate_count,
        "messages_rejected": summary.rejected_count,
        "dead_letters": summary.dead_letter_count,
        "backlog": summary.backlog_count,
        **health,
    }
    seconds = {"drain_duration": round(time.monotonic() - started_s, 3)}
    log.info("drain.measured", **embed_metrics(seconds=seconds, counts=counts, dimensions={"queue": queue_name}))
    return summary.facts() | health


def read_health(settings: Settings) -> dict[str, int]:
    """What the last day lost, what waits and what needs somebody, by name."""
    with Store(settings.database, engine=settings.engine) as store, store.transaction(merge=False) as connection:
        found = connection.execute(HEALTH.read_text(encoding="utf-8"))
        names = [column[0] for column in found.description or ()]
        row = found.fetchone() or ()
    return dict(zip(names, map(int, row), strict=True))


def _drain(settings: Settings, left_s: float) -> job.Summary:
    client = Cloudflare(api_token=settings.api_token, account_id=settings.account_id, base_url=settings.api_base_url)
    with client as cloudflare, _stopped_after(left_s - MARGIN_S) as stop:
        return job.run(settings, cloudflare, stop=stop)


def _maintain() -> dict[str, Any]:
    log = configure_logs(job="log_consumer", level="info")
    queue_name = ""
    try:
        settings = read_query_settings(os.environ)
        queue_name = settings.queue_name
        with Store(settings.database, engine=settings.engine) as store:
            done = maintain(store, retention_days=settings.retention_days, now=utc_now()).facts()
    except FlagedgeError as error:
        failed = embed_metrics(counts={"maintain_failed": 1}, dimensions={"queue": queue_name})
        log.error("maintain.failed", error=str(error), **failed)  # noqa: TRY400 - as above
        raise
    measured = embed_metrics(counts={"maintain_failed": 0}, dimensions={"queue": queue_name})
    log.info("maintain.finished", **done, **measured)
    return done


@contextmanager
def _stopped_after(seconds: float) -> Iterator[threading.Event]:
    """An event that is set after so long; at once if that is over already."""
    stop = threading.Event()
    timer = threading.Timer(max(0.0, seconds), stop.set)
    timer.daemon = True
    timer.start()
    try:
        yield stop
    finally:
        timer.cancel()
