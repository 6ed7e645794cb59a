"""The consumer's settings; nothing else in the package reads the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from flagedge.logs import LEVELS
from flagedge.references import open_reader
from flagedge.settings import Secret, SettingsReader, decode_base64
from log_consumer.analysis import Value, parse_analysis
from log_consumer.databases import DUCKLAKE, S3, Database, Lake, parse_database, show_database
from log_consumer.engine import Engine
from log_consumer.privacy import HMAC, KEY_BYTES, PLAIN, POLICIES, STORE_PLAIN, KeyPolicy

API_BASE_URL = "https://api.cloudflare.com/client/v4"
DATABASE = "exposures.duckdb"
QUEUE = "flag-logs-queue"
STICKY_NAMESPACE = "resolver-materializations"
LAMBDA_FOLDER = "/tmp"  # noqa: S108 - AWS's promise
# FORWARD to the destinations, in the order in which they are asked.
FORWARDS = {"edge": ("edge",), "cloudflare": ("cloudflare",), "both": ("edge", "cloudflare"), "off": ()}


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """What goes on to Confidence; no destinations: nothing does."""

    destinations: tuple[str, ...] = ()
    client_secret: Secret = Secret("")  # noqa: RUF009 - immutable
    account: str = ""
    edge_url: str = ""  # empty: Confidence's
    cloudflare_url: str = ""
    max_bytes: int = 1_000_000
    max_concurrent: int = 4
    max_refusals: int = 8
    timeout_ms: int = 15_000

    def __bool__(self) -> bool:
        return bool(self.destinations)


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
    database: Database = DATABASE
    engine: Engine = Engine()  # noqa: RUF009 - immutable
    log_level: str = "info"
    pull_batch_size: int = 100
    max_concurrent_pulls: int = 8
    visibility_timeout_ms: int = 300_000
    batch_max_bytes: int = 32_000_000
    batch_max_wait_ms: int = 5_000
    idle_max_ms: int = 60_000
    rolls_when: str = "drain"  # or maintain: when what landed is entered into exposed_units
    make_resources: bool = True  # a pull consumer of the dead-letter queue, where it has none
    forward: ForwardSettings = ForwardSettings()
    key_policy: KeyPolicy = STORE_PLAIN
    sticky_namespace_title: str = STICKY_NAMESPACE

    @property
    def dead_letter_queue_name(self) -> str:
        return f"{self.queue_name}-dlq"


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """What the commands are told that need no token, for they call nobody.

    `retention_days` 0 keeps all; `analysis` are variables of the view analysis_settings.
    """

    queue_name: str = QUEUE
    database: Database = DATABASE
    engine: Engine = Engine()  # noqa: RUF009 - immutable
    s3: S3 = S3()  # noqa: RUF009 - immutable
    retention_days: int = 0
    alert_url: Secret = Secret("")  # noqa: RUF009 - immutable
    analysis: Mapping[str, Value] = field(default_factory=dict)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Values that name a secret of AWS are fetched. Raises SettingsError with every problem at once."""
    reader = open_reader(environ, _read)
    settings = _read(reader)
    reader.finish()
    return settings


def read_query_settings(environ: Mapping[str, str]) -> QuerySettings:
    """Values that name a secret of AWS are fetched. Raises SettingsError with every problem at once."""
    reader = open_reader(environ, _read_query)
    settings = _read_query(reader)
    reader.finish()
    return settings


def _read(reader: SettingsReader) -> Settings:
    prefix = reader.name_prefix("WORKER_NAME_PREFIX")
    api_base_url = reader.url("CLOUDFLARE_API_BASE_URL", API_BASE_URL)
    return Settings(
        api_token=reader.required_secret("CLOUDFLARE_API_TOKEN", "a token with Queues edit permission"),
        account_id=reader.text("CLOUDFLARE_ACCOUNT_ID"),
        api_base_url=api_base_url,
        queue_name=prefix + QUEUE,
        database=_read_database(reader),
        engine=_read_engine(reader),
        log_level=reader.choice("LOG_LEVEL", "info", LEVELS),
        pull_batch_size=reader.whole_number("PULL_BATCH_SIZE", 100, low=1, high=100),
        max_concurrent_pulls=reader.whole_number("MAX_CONCURRENT_PULLS", 8, low=1, high=64),
        visibility_timeout_ms=reader.whole_number("VISIBILITY_TIMEOUT_MS", 300_000, low=1_000, high=43_200_000),
        batch_max_bytes=reader.whole_number("BATCH_MAX_BYTES", 32_000_000, low=1, high=256_000_000),
        batch_max_wait_ms=reader.whole_number("BATCH_MAX_WAIT_MS", 5_000, low=0, high=60_000),
        rolls_when=reader.choice("ROLL_EXPOSURES", "drain", ("drain", "maintain")),
        make_resources=reader.boolean("MAKE_RESOURCES", default=True),
        idle_max_ms=reader.whole_number("IDLE_MAX_MS", 60_000, low=100, high=3_600_000),
        forward=_read_forward(reader, api_base_url),
        key_policy=_read_key_policy(reader),
        sticky_namespace_title=prefix + STICKY_NAMESPACE,
    )


def _read_query(reader: SettingsReader) -> QuerySettings:
    return QuerySettings(
        queue_name=reader.name_prefix("WORKER_NAME_PREFIX") + QUEUE,
        database=_read_database(reader),
        engine=_read_engine(reader),
        s3=_read_s3(reader),
        retention_days=reader.whole_number("RETENTION_DAYS", 0, low=0, high=36_500),
        alert_url=reader.secret_url("ALERT_WEBHOOK_URL"),
        analysis=_read_analysis(reader),
    )


def _read_analysis(reader: SettingsReader) -> Mapping[str, Value]:
    values, problems = parse_analysis(reader.text("ANALYSIS"))
    for problem in problems:
        reader.problem(f"ANALYSIS: {problem}")
    return values


def _read_key_policy(reader: SettingsReader) -> KeyPolicy:
    policy = KeyPolicy(
        reader.choice("TARGETING_KEY_POLICY", PLAIN, POLICIES),
        reader.key_bytes(
            "TARGETING_KEY_HASH_KEY", decode=decode_base64, length=KEY_BYTES, expected=f"base64 of {KEY_BYTES} bytes"
        ),
    )
    if policy.name == HMAC and not policy.hash_key:
        reader.problem("TARGETING_KEY_HASH_KEY is needed for TARGETING_KEY_POLICY=hmac (`openssl rand -base64 32`)")
    return policy


def _read_forward(reader: SettingsReader, api_base_url: str) -> ForwardSettings:
    """Nothing is forwarded from an API that is not Cloudflare's unless somebody says so."""
    client_secret, account = reader.secret("CONFIDENCE_CLIENT_SECRET"), reader.text("CONFIDENCE_ACCOUNT")
    may_forward = bool(client_secret) and api_base_url == API_BASE_URL
    default = ("both" if account else "edge") if may_forward else "off"
    destinations = FORWARDS[reader.choice("FORWARD", default, tuple(FORWARDS))]
    if destinations and not client_secret:
        reader.problem("CONFIDENCE_CLIENT_SECRET is needed to forward (or FORWARD=off)")
    if "cloudflare" in destinations and not account:
        reader.problem("CONFIDENCE_ACCOUNT is needed for that destination, such as accounts/acme (or FORWARD=edge)")
    return ForwardSettings(
        destinations=destinations,
        client_secret=client_secret,
        account=account,
        edge_url=reader.url("FORWARD_EDGE_URL"),
        cloudflare_url=reader.url("FORWARD_CLOUDFLARE_URL"),
        max_bytes=reader.whole_number("FORWARD_MAX_BYTES", 1_000_000, low=10_000, high=4_000_000),
        max_concurrent=reader.whole_number("FORWARD_MAX_CONCURRENT", 4, low=1, high=32),
        max_refusals=reader.whole_number("FORWARD_MAX_REFUSALS", 8, low=1, high=1_000),
        timeout_ms=reader.whole_number("FORWARD_TIMEOUT_MS", 15_000, low=100, high=300_000),
    )


def _read_database(reader: SettingsReader) -> Database:
    expected = f"the path of a DuckDB file, or {DUCKLAKE}postgres://USER@HOST:PORT/NAME"
    database = reader.parsed("DATABASE", parse_database, parse_database(DATABASE), expected, show=show_database)
    password, data_path = reader.secret("DATABASE_PASSWORD"), reader.text("LAKE_DATA_PATH")
    s3 = _read_s3(reader)
    if not isinstance(database, Lake):
        if reader.text("AWS_LAMBDA_FUNCTION_NAME"):
            reader.problem(f"DATABASE is a local path, and a function's disk is not kept: it must be a {DUCKLAKE} URL")
        return database
    if not data_path:
        reader.problem("LAKE_DATA_PATH is not set (where the lake's files are: s3://BUCKET/PREFIX, or a folder)")
    if password and database.password:
        reader.problem("DATABASE_PASSWORD is set, and DATABASE has a password too")
    return replace(database, password=password or database.password, data_path=data_path, s3=s3)


def _read_s3(reader: SettingsReader) -> S3:
    return S3(
        endpoint=reader.url("AWS_ENDPOINT_URL_S3") or reader.url("AWS_ENDPOINT_URL"),
        region=reader.text("AWS_REGION") or reader.text("AWS_DEFAULT_REGION"),
    )


def _read_engine(reader: SettingsReader) -> Engine:
    """What DuckDB may use; on AWS Lambda, two fifths of the memory, and the one folder that can be written."""
    limit = reader.parsed("DUCKDB_MEMORY_LIMIT", _parse_memory, "", "an amount of memory such as 2GB")
    folder = reader.text("DUCKDB_TEMP_DIRECTORY")
    if not reader.text("AWS_LAMBDA_FUNCTION_NAME"):
        return Engine(limit, folder)
    function_mb = reader.whole_number("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 1024, low=128, high=1_000_000)
    return Engine(limit or f"{function_mb * 2 // 5}MB", folder or f"{LAMBDA_FOLDER}/duckdb", home=LAMBDA_FOLDER)


def _parse_memory(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)? ?[KMGT]i?B", text, re.IGNORECASE):
        raise ValueError
    return text
