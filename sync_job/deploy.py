"""Getting an upload live, every step safe to repeat: queue, its pull consumer, token key, script, workers.dev.

A failed read raises and so never leads to a write; in particular no token key is made unless the Worker is known
to have none. The first upload carries its key among the bindings: there is never a live Worker without one.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any

from flagedge.cloudflare import Cloudflare
from flagedge.settings import Secret
from sync_job.assemble import (
    CLIENT_SECRET_NAME,
    DIGEST_NAME,
    ETAG_NAME,
    TOKEN_KEY_NAME,
    VERSION_NAME,
    Upload,
)
from sync_job.settings import TOKEN_KEY_BYTES, SyncSettings, WorkerSettings


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """What the deployed Worker says of itself, in its bindings; nothing of it is secret."""

    exists: bool = False
    etag: str = ""
    version: str = ""
    settings_digest: str = ""
    has_token_key: bool = False


def read_live_worker(cloudflare: Cloudflare, worker_name: str) -> LiveWorker:
    """Ask the API what is live."""
    settings = cloudflare.get_script_settings(worker_name)
    if settings is None:
        return LiveWorker()
    bindings: list[dict[str, Any]] = settings.get("bindings") or []
    texts = {binding["name"]: binding.get("text", "") for binding in bindings if binding["type"] == "plain_text"}
    return LiveWorker(
        exists=True,
        etag=texts.get(ETAG_NAME, ""),
        version=texts.get(VERSION_NAME, ""),
        settings_digest=texts.get(DIGEST_NAME, ""),
        has_token_key=any(
            binding["type"] == "secret_text" and binding["name"] == TOKEN_KEY_NAME for binding in bindings
        ),
    )


def ensure_queue(cloudflare: Cloudflare, queue_name: str) -> None:
    """The flag-logs queue, with a pull consumer: made if absent."""
    queue = cloudflare.find_queue(queue_name) or cloudflare.create_queue(queue_name)
    consumers = cloudflare.list_queue_consumers(queue.queue_id)
    if not any(consumer.get("type") == "http_pull" for consumer in consumers):
        cloudflare.create_pull_consumer(queue.queue_id)


def ensure_namespaces(cloudflare: Cloudflare, settings: WorkerSettings) -> dict[str, str]:
    """The ids of the KV namespaces by binding; those that do not exist are made."""
    return {
        binding: cloudflare.find_kv_namespace(title) or cloudflare.create_kv_namespace(title)
        for binding, title in settings.namespaces
    }


def choose_secrets(settings: SyncSettings, live: LiveWorker) -> dict[str, Secret]:
    """The secrets to bind with this upload; those not named stay as they are."""
    chosen = {CLIENT_SECRET_NAME: settings.client_secret}
    if settings.token_key:
        chosen[TOKEN_KEY_NAME] = settings.token_key
    elif not live.has_token_key:
        chosen[TOKEN_KEY_NAME] = Secret(base64.b64encode(secrets.token_bytes(TOKEN_KEY_BYTES)).decode())
    return chosen


def deploy_upload(
    cloudflare: Cloudflare, worker_name: str, upload: Upload, *, bound_secrets: dict[str, Secret]
) -> str | None:
    """Upload, and see to it that workers.dev leads there. The URL, or None for an account without a subdomain."""
    secret_bindings = [
        {"type": "secret_text", "name": name, "text": secret.reveal()} for name, secret in bound_secrets.items()
    ]
    metadata = upload.metadata | {"bindings": upload.metadata["bindings"] + secret_bindings}
    cloudflare.upload_script(worker_name, metadata=metadata, modules=upload.modules)
    subdomain = cloudflare.get_subdomain()
    if subdomain is None:
        return None
    cloudflare.set_workers_dev(worker_name, enabled=True)
    return f"https://{worker_name}.{subdomain}.workers.dev"
