"""`sync_job.handler.handler`: one pass as an AWS Lambda function.

Called by a schedule, or by any event that says that flags changed; which, does not matter, for the pass looks for
itself: an event that comes twice or late does no harm. Behind a function URL the caller has to sign by WEBHOOK_SECRET.
"""

from __future__ import annotations

import base64
import json
import os
import time
from typing import Any, Protocol

from flagedge.errors import FlagedgeError
from flagedge.logs import configure_logs
from flagedge.settings import Secret
from sync_job.deadline import Deadline
from sync_job.job import RunOptions, RunResult, run
from sync_job.metrics import run_metrics
from sync_job.occasion import Cause
from sync_job.settings import SyncSettings, read_log_level, read_sync_settings
from sync_job.signature import HEADER, is_signed
from sync_job.workers_api import open_api

_MARGIN_S = 2.0
"""Kept back from the time that Lambda leaves, to say what happened."""


class LambdaContext(Protocol):
    """What is used of the context that Lambda passes."""

    def get_remaining_time_in_millis(self) -> int: ...


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run once. The result as a dict, or as an HTTP answer behind a function URL; a failure raises, for the schedule's
    retries and alarms.
    """
    log = configure_logs(job="sync_job", level=read_log_level(os.environ))
    began = time.monotonic()
    deadline = Deadline.after(context.get_remaining_time_in_millis() / 1000 - _MARGIN_S)
    is_http = "http" in (event.get("requestContext") or {})
    worker_name = ""
    try:
        settings = read_sync_settings(os.environ)
        worker_name = settings.worker.worker_name
        if is_http and not is_signed_event(event, settings.webhook_secret, now_s=time.time()):
            return _answer(401, {"error": "the signature is missing, wrong or too old"})
        result = _run(settings, deadline, Cause("webhook" if is_http else "schedule"))
    except FlagedgeError as error:
        metrics = run_metrics("failed", time.monotonic() - began, worker_name=worker_name)
        log.error("job.failed", error=str(error), **metrics)  # noqa: TRY400 (the message says it all)
        if is_http:
            return _answer(500, {"error": str(error)})
        raise
    measured = run_metrics(
        result.outcome, result.duration_s, worker_name=result.worker_name, state_age_s=result.state_age_s
    )
    log.info("run.measured", **measured)
    return _answer(200, result.to_json()) if is_http else result.to_json()


def _run(settings: SyncSettings, deadline: Deadline, cause: Cause) -> RunResult:
    with open_api(settings) as api:
        return run(settings, api, RunOptions(deadline=deadline, cause=cause))


def is_signed_event(event: dict[str, Any], secret: Secret, *, now_s: float) -> bool:
    """Whether a function URL's event carries a fresh signature by the secret."""
    headers = {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    body = str(event.get("body") or "").encode()
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body)
    return is_signed(headers.get(HEADER, ""), secret, body, now_s=now_s)


def _answer(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
