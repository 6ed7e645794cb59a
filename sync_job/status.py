"""What is live, asked from the API: state, versions, token keys, and the queue's backlog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from sync_job.deploy import find_address
from sync_job.gate import find_probe_url
from sync_job.hot_state import ask_edge, read_hot_state
from sync_job.live import describe_worker
from sync_job.overrides import Override
from sync_job.settings import SyncSettings
from sync_job.token_keys import TokenKey
from sync_job.workers_api import WorkersApi


@dataclass(frozen=True, slots=True)
class Status:
    """What an operator wants to know at a glance. Ages in seconds, None where nobody knows."""

    worker_name: str
    is_deployed: bool
    etag: str = ""
    source: str = "bundle"
    """Where the state came from: with the version (`bundle`), or published since (`kv`)."""
    published_age_s: float | None = None
    edge: Mapping[str, Any] | None = None
    """Where states are published, what the Worker itself says of its state; None where it was not asked or heard."""
    rolled_back_from: str = ""
    """The state that this one replaces for as long as the CDN serves it."""
    overrides: tuple[Override, ...] = ()
    """Flags that are not what their rules say."""
    worker_version: str = ""
    state_account: str = ""
    deployed_at: str = ""
    age_s: float | None = None
    versions: tuple[tuple[str, float], ...] = ()
    """Version ids and their shares of the traffic in percent."""
    worker_versions: Mapping[str, str] = field(default_factory=dict)
    """By version id, the flagedge that uploaded it."""
    token_keys: tuple[TokenKey, ...] = ()
    """Oldest first; the last one seals."""
    queue_name: str = ""
    backlog_count: int | None = None
    backlog_bytes: int | None = None
    oldest_message_age_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_status(settings: SyncSettings, api: WorkersApi, *, now: datetime | None = None) -> Status:
    """Reads only; the version with the largest share speaks for the Worker."""
    name = settings.worker.worker_name
    now = now or datetime.now(UTC)
    queue = _read_queue(settings, api, now)
    deployment = api.get_deployment(name)
    if deployment is None or not deployment.percentages:
        return Status(name, is_deployed=False, **queue)
    served = {each: describe_worker(api.get_version_bindings(name, each)) for each in deployment.percentages}
    uploaded = served[deployment.live_version_id]
    live = read_hot_state(settings, api, uploaded, now_s=now.timestamp()).lay_over(uploaded)
    return Status(
        name,
        is_deployed=True,
        etag=live.etag,
        source="kv" if live.behind_since_s else "bundle",
        published_age_s=round(now.timestamp() - live.state_since_s, 1) if live.behind_since_s else None,
        edge=_ask_edge(settings, api) if live.state_namespace_id else None,
        rolled_back_from=live.rolled_back_from,
        overrides=live.overrides,
        worker_version=live.version,
        state_account=live.account,
        deployed_at=deployment.created_at,
        age_s=_age_s(deployment.created_at, now),
        versions=tuple(deployment.percentages.items()),
        worker_versions={version_id: each.version for version_id, each in served.items()},
        token_keys=live.token_keys,
        **queue,
    )


def format_status(status: Status) -> str:
    """For people."""
    lines = [f"worker        {status.worker_name}" + ("" if status.is_deployed else " (not deployed)")]
    if status.is_deployed:
        shares = ", ".join(
            f"{version_id} ({share:g} %, by flagedge {status.worker_versions[version_id] or '(somebody else)'})"
            for version_id, share in status.versions
        )
        account = f", account {status.state_account}" if status.state_account else ""
        age = _describe_age(status.age_s)
        lines += [
            f"state         {status.etag or '(none of ours)'}{account}",
            *([f"published     {_describe_age(status.published_age_s)} ago"] if status.source == "kv" else []),
            *([f"the edge has  {_describe_edge(status.edge)}"] if status.edge else []),
            f"deployed      {status.deployed_at}, {age} ago",
            f"versions      {shares}",
        ]
        if status.rolled_back_from:
            lines.insert(
                2,
                f"rolled back   from {status.rolled_back_from}, until the CDN serves another state, "
                "or `sync-job rollback --clear`",
            )
        lines += [f"override      {override.to_text()}" for override in status.overrides]
        for key in reversed(status.token_keys):
            lines.append(f"token key     {describe_key(key, seals=key is status.token_keys[-1])}")
    if status.backlog_count is None:
        lines.append(f"queue         {status.queue_name} (missing)")
    else:
        oldest = f", the oldest {_describe_age(status.oldest_message_age_s)} old" if status.oldest_message_age_s else ""
        lines.append(
            f"queue         {status.queue_name}: about {status.backlog_count:,} messages, "
            f"{status.backlog_bytes:,} bytes{oldest}"
        )
    return "\n".join(lines)


def describe_key(key: TokenKey, *, seals: bool) -> str:
    """One line on a token key, for people."""
    since = datetime.fromtimestamp(key.since_s, UTC).isoformat() if key.since_s else "nobody knows when"
    return f"{key.kid or key.name}: {'seals and opens' if seals else 'opens'}, sealing since {since}"


def _ask_edge(settings: SyncSettings, api: WorkersApi) -> Mapping[str, Any] | None:
    url = find_probe_url(settings, find_address(api, settings.worker))
    return ask_edge(url) if url else None


def _describe_edge(edge: Mapping[str, Any]) -> str:
    problem = f"; it refuses what KV has: {edge['problem']}" if edge.get("problem") else ""
    return f"state {edge['etag']} from {edge['source']}, {_describe_age(edge.get('age_s'))} old{problem}"


def _read_queue(settings: SyncSettings, api: WorkersApi, now: datetime) -> dict[str, Any]:
    name = settings.worker.queue_name
    queue = api.find_queue(name)
    if queue is None:
        return {"queue_name": name}
    metrics = api.get_queue_metrics(queue.queue_id)
    oldest_ms = int(metrics.get("oldest_message_timestamp_ms") or 0)
    return {
        "queue_name": name,
        "backlog_count": int(metrics.get("backlog_count") or 0),
        "backlog_bytes": int(metrics.get("backlog_bytes") or 0),
        "oldest_message_age_s": round(now.timestamp() - oldest_ms / 1000, 1) if oldest_ms else None,
    }


def _age_s(text: str, now: datetime) -> float | None:
    try:
        return round((now - datetime.fromisoformat(text)).total_seconds(), 1)
    except (ValueError, TypeError):
        return None


def _describe_age(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
