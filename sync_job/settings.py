"""The settings of sync_job, by the names that the official deployer gave them where it has them.

What ends up in the Worker (`WorkerSettings`) is apart from what it takes to get it there (`SyncSettings`), because
`sync-job build` needs no credentials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from flagedge.cloudflare import API_BASE_URL
from flagedge.errors import SettingsError
from flagedge.logs import LEVELS
from flagedge.references import open_reader
from flagedge.settings import Secret, SettingInForce, SettingsReader, decode_base64
from sync_job.archive_store import OFF, open_store
from sync_job.findings import Finding
from sync_job.lease_places import open_lease
from sync_job.pages import (
    CONTEXT_EXPECTED,
    COOKIE,
    FLAGS_EXPECTED,
    PageSettings,
    are_attribute_keys,
    parse_cookie_name,
    parse_origin,
    parse_page_context,
    parse_page_flags,
    parse_team,
)
from sync_job.pointer import MAC_KEY_BYTES
from sync_job.token_keys import KEY_BYTES
from sync_job.wrangler import UploadExtras, read_extras

STATE_KEY_BYTES = 32
_DEFAULT_WORKER_NAME = "confidence-cloudflare-resolver"
_DEFAULT_QUEUE_NAME = "flag-logs-queue"
NAMESPACES = {
    "ENABLE_STICKY_ASSIGNMENTS": ("CONFIDENCE_MATERIALIZATIONS_KV", "resolver-materializations"),
    "ENABLE_METRICS": ("CONFIDENCE_METRICS_KV", "resolver-metrics"),
}
"""By switch: the binding of a KV namespace, and the namespace's title before its prefix."""
STATE_NAMESPACE = ("CONFIDENCE_STATE_KV", "resolver-state")
"""The same of the one that plans are published to."""
RULES_TTL_MS = 30_000
TOKEN_TTL_S = 30 * 86_400
ARCHIVE_RETENTION_DAYS = 90
FORMATS = ("flagedge", "upstream")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What the Worker is told. `force_apply` None leaves the Worker's default, which is on."""

    worker_name: str = _DEFAULT_WORKER_NAME
    queue_name: str = _DEFAULT_QUEUE_NAME
    allowed_origin: str = ""
    force_apply: bool | None = None
    log_linger_ms: int = 250
    log_format: str = "flagedge"
    token_format: str = "flagedge"  # noqa: S105 (a format)
    token_ttl_s: int = TOKEN_TTL_S
    namespaces: tuple[tuple[str, str], ...] = ()
    """KV namespaces to bind: (binding, title)."""
    materialization_ttl_s: int = 0
    """0 keeps sticky assignments for ever."""
    ofrep_clients: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    """By client name: `backend` (not to be used in a browser), `exposes` (an evaluation is an exposure)."""
    publishes: bool = False
    """Whether new states go to KV, and the Worker looks for them there."""
    rules_ttl_ms: int = RULES_TTL_MS
    """How often it looks."""
    workers_dev: bool = True
    """Whether the Worker is to be reached below workers.dev."""
    pages: PageSettings = field(default_factory=PageSettings)
    extras: UploadExtras = field(default_factory=UploadExtras)

    @property
    def has_materializations(self) -> bool:
        binding, _ = NAMESPACES["ENABLE_STICKY_ASSIGNMENTS"]
        return binding in dict(self.namespaces)


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Everything a run needs. `account_id` may be empty: it is then the one account that the token sees."""

    api_token: Secret
    client_secret: Secret
    worker: WorkerSettings
    account_id: str = ""
    zone_id: str = ""
    """The zone whose cache `purge` purges."""
    api_base_url: str = API_BASE_URL
    state_url: str = field(default="", repr=False)  # may carry a password
    state_key: Secret = Secret("")  # noqa: RUF009 (a Secret is immutable)
    token_key: Secret = Secret("")  # noqa: RUF009
    state_mac_key: Secret = Secret("")  # noqa: RUF009
    """Base64; signs what is published to KV."""
    force: bool = False
    no_deploy: bool = False
    """Fetch, check and compile, and write nothing."""
    make_resources: bool = True
    """Whether queues, pull consumer and KV namespaces are made if absent; else others do."""
    lease: str = ""
    """Where runs exclude each other: see lease.py."""
    archive: str = OFF
    """Where deployed states are kept: see archive_store.py."""
    archive_retention_days: int = ARCHIVE_RETENTION_DAYS
    """How long after they were superseded."""
    max_blast_radius: float | None = None
    """The share of units (0 to 1) whose answer to a flag a run may change by itself; None for any."""
    alert_url: Secret = Secret("")  # noqa: RUF009
    """Where people are told of what is not deployed."""
    webhook_secret: Secret = Secret("")  # noqa: RUF009
    probe: bool = True
    """Whether a version is asked before it gets traffic."""
    probe_url: str = field(default="", repr=False)
    """Where the Worker is reached by probes; its address below workers.dev unless given."""
    steps: tuple[int, ...] = (100,)
    """Shares of the traffic, in percent and ascending to 100, that new code gets from run to run."""
    accepted_findings: frozenset[Finding] = frozenset()
    """What would refuse a state, and is only to be noted."""

    @property
    def dead_letter_queue_name(self) -> str:
        return f"{self.worker.queue_name}-dlq"


def read_log_level(environ: Mapping[str, str]) -> str:
    reader = SettingsReader(environ)
    level = reader.choice("LOG_LEVEL", "info", LEVELS)
    reader.finish()
    return level


def read_state_key(environ: Mapping[str, str]) -> Secret:
    """The key of an encrypted state alone, for `build`. Raises SettingsError."""
    reader = SettingsReader(environ)
    key = _state_key(reader)
    reader.finish()
    return key


def read_worker_settings(environ: Mapping[str, str]) -> WorkerSettings:
    """What `build` needs. Raises SettingsError with every problem found."""
    reader = SettingsReader(environ)
    settings = _worker(reader)
    reader.finish()
    return settings


def read_sync_settings(environ: Mapping[str, str]) -> SyncSettings:
    """What `run` needs; values that name a secret of AWS are fetched. Raises SettingsError with every problem found."""
    reader = open_reader(environ, _read_all)
    settings = _sync(reader)
    reader.finish()
    return settings


def describe_settings(environ: Mapping[str, str]) -> tuple[list[SettingInForce], list[str]]:
    """Every setting as it would be used, by name, and what is wrong with them."""
    reader = open_reader(environ, _read_all)
    _read_all(reader)
    return sorted(reader.in_force.values(), key=lambda setting: setting.name), reader.problems


def _read_all(reader: SettingsReader) -> None:
    _sync(reader)
    reader.choice("LOG_LEVEL", "info", LEVELS)


def _sync(reader: SettingsReader) -> SyncSettings:
    return SyncSettings(
        api_token=reader.required_secret("CLOUDFLARE_API_TOKEN", "a token that may edit Workers Scripts and Queues"),
        client_secret=reader.required_secret("CONFIDENCE_CLIENT_SECRET", "the client whose flags are served"),
        worker=_worker(reader),
        account_id=reader.text("CLOUDFLARE_ACCOUNT_ID"),
        zone_id=reader.text("CLOUDFLARE_ZONE_ID"),
        api_base_url=reader.url("CLOUDFLARE_API_BASE_URL", API_BASE_URL),
        state_url=reader.url("CONFIDENCE_RESOLVER_STATE_URL"),
        state_key=_state_key(reader),
        token_key=reader.key_bytes(
            "RESOLVE_TOKEN_ENCRYPTION_KEY",
            decode=decode_base64,
            length=KEY_BYTES,
            expected=f"base64 of {KEY_BYTES} bytes",
        ),
        state_mac_key=_state_mac_key(reader),
        force=reader.switch("FORCE_DEPLOY"),
        no_deploy=reader.switch("NO_DEPLOY"),
        make_resources=reader.boolean("MAKE_RESOURCES", default=True),
        lease=_lease(reader),
        archive=_archive(reader),
        archive_retention_days=reader.whole_number(
            "ARCHIVE_RETENTION_DAYS", ARCHIVE_RETENTION_DAYS, low=1, high=36_500
        ),
        max_blast_radius=_max_blast_radius(reader),
        alert_url=reader.secret_url("ALERT_WEBHOOK_URL"),
        webhook_secret=reader.secret("WEBHOOK_SECRET"),
        probe=reader.choice("PROBE", "on", ("on", "off")) == "on",
        probe_url=reader.url("PROBE_URL"),
        steps=reader.parsed("DEPLOY_STEPS", _parse_steps, (100,), "ascending percentages up to 100, such as 5,25,100"),
        accepted_findings=reader.parsed(
            "ACCEPTED_FINDINGS", _parse_findings, frozenset(), "codes of findings with commas, as an error names them"
        ),
    )


def _worker(reader: SettingsReader) -> WorkerSettings:
    prefix = reader.name_prefix("WORKER_NAME_PREFIX")
    forced = reader.text("FORCE_APPLY")
    publishes = _publishes(reader)
    namespaces = [pair for switch, pair in NAMESPACES.items() if reader.switch(switch)]
    namespaces += [STATE_NAMESPACE] if publishes else []
    return WorkerSettings(
        worker_name=prefix + _DEFAULT_WORKER_NAME,
        queue_name=prefix + _DEFAULT_QUEUE_NAME,
        allowed_origin=reader.text("CONFIDENCE_RESOLVER_ALLOWED_ORIGIN"),
        force_apply=reader.boolean("FORCE_APPLY", default=True) if forced else None,
        log_linger_ms=reader.whole_number("LOG_LINGER_MS", 250, low=0, high=10_000),
        log_format=reader.choice("LOG_FORMAT", "flagedge", FORMATS),
        token_format=reader.choice("TOKEN_FORMAT", "flagedge", FORMATS),
        token_ttl_s=reader.whole_number("TOKEN_TTL_SECONDS", TOKEN_TTL_S, low=60, high=2**32 - 1),
        namespaces=tuple((binding, prefix + title) for binding, title in namespaces),
        publishes=publishes,
        rules_ttl_ms=reader.whole_number("RULES_TTL_MS", RULES_TTL_MS, low=100, high=3_600_000),
        materialization_ttl_s=reader.whole_number("MATERIALIZATION_TTL_SECONDS", 0, low=0, high=2**32 - 1),
        ofrep_clients=reader.parsed(
            "OFREP_CLIENTS",
            _parse_ofrep_clients,
            {},
            'JSON such as {"clients/web": {"backend": false, "exposes": true}}',
        ),
        workers_dev=reader.boolean("WORKERS_DEV", default=True),
        pages=_pages(reader),
        extras=read_extras(reader),
    )


def _pages(reader: SettingsReader) -> PageSettings:
    no_rules: Mapping[str, str] = {}
    keys = reader.secret("PAGE_ATTRIBUTE_KEYS")
    if keys and not are_attribute_keys(keys.reveal()):
        reader.problem('PAGE_ATTRIBUTE_KEYS must be JSON such as {"2026-01": "…"}, each key base64 of 32 bytes')
    pages = PageSettings(
        flags=reader.parsed("PAGE_FLAGS", parse_page_flags, {}, FLAGS_EXPECTED),
        origin=reader.parsed("PAGE_ORIGIN", parse_origin, "", "scheme and host, such as https://shop.example.com"),
        context=reader.parsed("PAGE_CONTEXT", parse_page_context, no_rules, CONTEXT_EXPECTED),
        cookie=reader.parsed("PAGE_COOKIE", parse_cookie_name, COOKIE, "the name of a cookie"),
        client=reader.text("PAGE_CLIENT"),
        attribute_keys=keys,
        access_team=reader.parsed(
            "PAGE_ACCESS_TEAM", parse_team, "", "a team's address, such as https://example.cloudflareaccess.com"
        ),
        access_audience=reader.text("PAGE_ACCESS_AUDIENCE"),
    )
    for problem in pages.find_problems():
        reader.problem(problem)
    return pages


def _parse_ofrep_clients(text: str) -> dict[str, dict[str, bool]]:
    clients = json.loads(text)
    if not isinstance(clients, dict) or not all(isinstance(options, dict) for options in clients.values()):
        raise ValueError
    for options in clients.values():
        is_known = options.keys() <= {"backend", "exposes"}
        if not is_known or not all(isinstance(value, bool) for value in options.values()):
            raise ValueError
    return clients


def _publishes(reader: SettingsReader) -> bool:
    return reader.choice("PUBLISH", "deploy", ("deploy", "kv")) == "kv"


def _state_mac_key(reader: SettingsReader) -> Secret:
    key = reader.key_bytes(
        "STATE_MAC_KEY", decode=decode_base64, length=MAC_KEY_BYTES, expected=f"base64 of {MAC_KEY_BYTES} bytes"
    )
    if _publishes(reader) and not key:
        reader.problem("PUBLISH=kv signs what it publishes: set STATE_MAC_KEY (`openssl rand -base64 32` makes one)")
    return key


def _lease(reader: SettingsReader) -> str:
    where = reader.text("LEASE")
    try:
        open_lease(where, "")
    except SettingsError as exc:
        for problem in exc.problems:
            reader.problem(f"LEASE: {problem}")
    return where


def _archive(reader: SettingsReader) -> str:
    where = reader.text("STATE_ARCHIVE")
    try:
        open_store(where)
    except SettingsError as exc:
        for problem in exc.problems:
            reader.problem(f"STATE_ARCHIVE: {problem}")
    return where


def _max_blast_radius(reader: SettingsReader) -> float | None:
    limit = reader.parsed("MAX_BLAST_RADIUS", _parse_share, None, "a share such as 0.2 or 20%")
    with suppress(SettingsError):  # told already
        if limit is not None and open_store(reader.text("STATE_ARCHIVE")) is None:
            reader.problem("MAX_BLAST_RADIUS compares with the live state, which STATE_ARCHIVE has to keep")
    return limit


def _parse_share(text: str) -> float:
    share = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    if not 0 <= share <= 1:
        raise ValueError
    return share


def _parse_steps(text: str) -> tuple[int, ...]:
    steps = tuple(int(part) for part in text.split(","))
    if steps[-1] != 100 or list(steps) != sorted({*steps}) or steps[0] < 1:
        raise ValueError
    return steps


def _parse_findings(text: str) -> frozenset[Finding]:
    try:
        return frozenset(Finding[code.strip().upper()] for code in text.split(",") if code.strip())
    except KeyError as exc:
        raise ValueError from exc


def _state_key(reader: SettingsReader) -> Secret:
    return reader.key_bytes(
        "STATE_ENCRYPTION_KEY", decode=bytes.fromhex, length=STATE_KEY_BYTES, expected="64 hexadecimal digits"
    )
