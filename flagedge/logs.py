"""Structured logging for both jobs: a console on a terminal, one JSON object a line elsewhere.

Events are named `noun.verb_past` and are constants; facts are keys. Logs go to stderr, so that stdout
belongs to what a command was asked to print.
"""

from __future__ import annotations

import logging
import secrets
import sys

import structlog

LEVELS = ("debug", "info", "warning", "error")


def configure_logs(*, job: str, level: str = "info") -> structlog.stdlib.BoundLogger:
    """Set structlog up for this process and return a logger with `job` and a fresh `run_id` bound."""
    on_terminal = sys.stderr.isatty()
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if on_terminal:
        processors.append(structlog.dev.ConsoleRenderer())
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # It logs whole URLs, which may carry a signature; a Lambda function's log level reaches it.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(job=job, run_id=secrets.token_hex(4))
    log: structlog.stdlib.BoundLogger = structlog.get_logger()
    return log
