"""The consumer's settings; nothing else in the package reads the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flagedge.logs import LEVELS
from flagedge.settings import Secret, SettingsReader

API_BASE_URL = "https://api.cloudflare.com/client/v4"
DATABASE = "exposures.duckdb"
QUEUE = "flag-logs-queue"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run of `drain` is told.

    `visibility_timeout_ms` is how long a message may take from pull to ack: the time in which two batches are pulled
    and loaded, and the wait for a file that somebody else holds.
    """

    api_token: Secret
    account_id: str = ""  # empty: the only account that the token sees
    api_base_url: str = API_BASE_URL
    queue_name: str = QUEUE
    database: str = DATABASE
    log_level: str = "info"
    pull_batch_size: int = 100
    max_concurrent_pulls: int = 8
    visibility_timeout_ms: int = 300_000
    batch_max_bytes: int = 32_000_000
    batch_max_wait_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """What `sql` is told: no token, for it calls nobody."""

    database: str = DATABASE


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Raises SettingsError with every problem at once."""
    reader = SettingsReader(environ)
    prefix = reader.text("WORKER_NAME_PREFIX")
    settings = Settings(
        api_token=reader.required_secret("CLOUDFLARE_API_TOKEN", "a token with Queues edit permission"),
        account_id=reader.text("CLOUDFLARE_ACCOUNT_ID"),
        api_base_url=reader.url("CLOUDFLARE_API_BASE_URL", API_BASE_URL),
        queue_name=f"{prefix}-{QUEUE}" if prefix else QUEUE,
        database=_read_database(reader),
        log_level=reader.choice("LOG_LEVEL", "info", LEVELS),
        pull_batch_size=reader.whole_number("PULL_BATCH_SIZE", 100, low=1, high=100),
        max_concurrent_pulls=reader.whole_number("MAX_CONCURRENT_PULLS", 8, low=1, high=64),
        visibility_timeout_ms=reader.whole_number("VISIBILITY_TIMEOUT_MS", 300_000, low=1_000, high=43_200_000),
        batch_max_bytes=reader.whole_number("BATCH_MAX_BYTES", 32_000_000, low=1, high=256_000_000),
        batch_max_wait_ms=reader.whole_number("BATCH_MAX_WAIT_MS", 5_000, low=0, high=60_000),
    )
    reader.finish()
    return settings


def read_query_settings(environ: Mapping[str, str]) -> QuerySettings:
    """Raises SettingsError with every problem at once."""
    reader = SettingsReader(environ)
    settings = QuerySettings(database=_read_database(reader))
    reader.finish()
    return settings


def _read_database(reader: SettingsReader) -> str:
    """A path. Other schemes of DuckDB are refused here, for it would print their passwords when it fails."""

    def parse(text: str) -> str:
        if text.startswith(":") or text.partition(":")[0] in {
            "ducklake",
            "postgres",
            "postgresql",
            "md",
            "mysql",
            "s3",
        }:
            raise ValueError
        return text

    return reader.parsed("DATABASE", parse, DATABASE, "the path of a DuckDB file")
