"""One pass: what is live → fetch → decode → compile → assemble → deploy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import structlog

from flagedge import __version__
from flagedge.cloudflare import Cloudflare
from flagedge.settings import Secret
from sync_job.assemble import CLIENT_SECRET_NAME, TOKEN_KEY_NAME, assemble_upload, digest_settings
from sync_job.deploy import (
    LiveWorker,
    choose_secrets,
    deploy_upload,
    ensure_namespaces,
    ensure_queue,
    read_live_worker,
)
from sync_job.fetch import FetchedState, fetch_state, find_state_url
from sync_job.settings import SyncSettings

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did. `outcome` is `unchanged` or `deployed`; `url` is empty where there is no workers.dev."""

    outcome: str
    worker_name: str
    etag: str
    previous_etag: str = ""
    url: str = ""
    flag_count: int = 0
    upload_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run(settings: SyncSettings, cloudflare: Cloudflare, *, force: bool = False) -> RunResult:
    """Bring the Worker up to date, or find that it is.

    `force` deploys whatever is live. Idempotent; safe to run again after a crash at any point. Raises FlagedgeError.
    """
    name = settings.worker.worker_name
    live = read_live_worker(cloudflare, name)
    digest = digest_settings(settings.worker, _known_secrets(settings))
    is_current = live.version == __version__ and live.settings_digest == digest and live.has_token_key and not force
    fetched = fetch_state(find_state_url(settings), known_etag=live.etag if is_current else "")
    if fetched is None:
        _log.info("job.finished", outcome="unchanged", etag=live.etag)
        return RunResult("unchanged", name, live.etag, live.etag)
    return _deploy(settings, cloudflare, live, fetched, digest)


def _deploy(
    settings: SyncSettings, cloudflare: Cloudflare, live: LiveWorker, fetched: FetchedState, digest: str
) -> RunResult:
    # Imported late: a run that finds nothing to do needs neither protobuf nor the compiler.
    from sync_job.compile import compile_plan  # noqa: PLC0415
    from sync_job.decode import decode_state, decrypt_state  # noqa: PLC0415

    name = settings.worker.worker_name
    data = decrypt_state(fetched.data, settings.state_key) if settings.state_key else fetched.data
    plan = compile_plan(decode_state(data), etag=fetched.etag)
    _log.info("plan.compiled", etag=plan.etag, flag_count=plan.flag_count)
    ensure_queue(cloudflare, settings.worker.queue_name)
    namespace_ids = ensure_namespaces(cloudflare, settings.worker)
    upload = assemble_upload(plan, settings.worker, settings_digest=digest, namespace_ids=namespace_ids)
    url = deploy_upload(cloudflare, name, upload, bound_secrets=choose_secrets(settings, live))
    _log.info("job.finished", outcome="deployed", etag=plan.etag, previous_etag=live.etag, url=url)
    return RunResult("deployed", name, plan.etag, live.etag, url or "", plan.flag_count, upload.size_bytes)


def _known_secrets(settings: SyncSettings) -> dict[str, Secret]:
    """Secrets that the operator gave; one that we made is not known to later runs and decides nothing."""
    known = {CLIENT_SECRET_NAME: settings.client_secret}
    return known | {TOKEN_KEY_NAME: settings.token_key} if settings.token_key else known
