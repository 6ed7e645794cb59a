"""The part of the Cloudflare API that deploys: scripts, versions, deployments, secrets, KV namespaces.

Reads and replacing writes are safe to repeat. Repeating `upload_version` or `create_deployment` after a lost answer
leaves a version that nobody uses, or the same deployment twice; neither changes what is served.
Source: the Cloudflare API's own OpenAPI description.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from flagedge.cloudflare import TITLE_TAKEN, Cloudflare
from flagedge.errors import ApiError
from sync_job.settings import SyncSettings

UPLOAD_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
NO_SUBDOMAIN = 10007
SCRIPT_MISSING = frozenset({10007, 10090})
_STRICT = {"bindings_inherit": "strict"}
"""An `inherit` binding that cannot be resolved is an error, not a silence."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module of a Worker: `name` is what imports say, `content_type` decides what an import gives."""

    name: str
    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is served: shares of the traffic by version id."""

    deployment_id: str
    created_at: str
    percentages: Mapping[str, float]

    @property
    def live_version_id(self) -> str:
        """The version with the largest share; "" for none."""
        return max(self.percentages, key=lambda each: self.percentages[each], default="")


class WorkersApi(Cloudflare):
    """The client of sync_job."""

    def get_subdomain(self) -> str | None:
        """The account's name below workers.dev, None when it has none yet."""
        result = self.find("/workers/subdomain", missing=frozenset({NO_SUBDOMAIN}))
        return str(result["subdomain"]) if result and result.get("subdomain") else None

    def get_script_settings(self, script: str) -> dict[str, Any] | None:
        """Bindings and runtime settings of the script, None when there is no such script."""
        return self.find(f"/workers/scripts/{script}/settings", missing=SCRIPT_MISSING)

    def patch_script_settings(self, script: str, settings: Mapping[str, Any]) -> None:
        """Change what belongs to the script and not to a version: tags, logpush, observability, tail consumers."""
        self.call("PATCH", f"/workers/scripts/{script}/script-settings", body=settings)

    def upload_script(self, script: str, *, metadata: Mapping[str, Any], modules: Sequence[Module]) -> dict[str, Any]:
        """Upload and deploy to everyone at once: the only way to a script that does not exist yet."""
        params = {"excludeScript": "true", **_STRICT}
        return self._upload("PUT", f"/workers/scripts/{script}", metadata, modules, params)

    def upload_version(self, script: str, *, metadata: Mapping[str, Any], modules: Sequence[Module]) -> str:
        """Upload a version that gets no traffic; its id."""
        version = self._upload("POST", f"/workers/scripts/{script}/versions", metadata, modules, _STRICT)
        return str(version["id"])

    def _upload(
        self,
        method: str,
        endpoint: str,
        metadata: Mapping[str, Any],
        modules: Sequence[Module],
        params: Mapping[str, str],
    ) -> dict[str, Any]:
        files: list[tuple[str, tuple[str | None, bytes, str]]] = [
            ("metadata", (None, json.dumps(metadata).encode(), "application/json"))
        ]
        files += [(module.name, (module.name, module.content, module.content_type)) for module in modules]
        return self.call(method, endpoint, params=params, files=files, timeout=UPLOAD_TIMEOUT)

    def get_deployment(self, script: str) -> Deployment | None:
        """The deployment that serves, None when there is none."""
        result = self.find(f"/workers/scripts/{script}/deployments", missing=SCRIPT_MISSING)
        deployments = (result or {}).get("deployments") or []
        if not deployments:
            return None
        active = deployments[0]
        shares = {str(item["version_id"]): float(item["percentage"]) for item in active.get("versions") or []}
        return Deployment(str(active["id"]), str(active.get("created_on", "")), shares)

    def get_version_bindings(self, script: str, version_id: str) -> list[dict[str, Any]]:
        """What a version is bound to; secrets by name only."""
        version = self.call("GET", f"/workers/scripts/{script}/versions/{version_id}")
        return list((version.get("resources") or {}).get("bindings") or [])

    def create_deployment(self, script: str, shares: Mapping[str, float], *, message: str) -> Deployment:
        """Serve versions to shares of the traffic in percent; one with 0 is reached by the override header alone."""
        versions = [{"version_id": version_id, "percentage": share} for version_id, share in shares.items()]
        body = {"strategy": "percentage", "versions": versions, "annotations": {"workers/message": message}}
        # A version that brings a new token key has other secrets than the one that serves: that is meant.
        made = self.call("POST", f"/workers/scripts/{script}/deployments", params={"force": "true"}, body=body)
        return Deployment(str(made["id"]), str(made.get("created_on", "")), dict(shares))

    def delete_secret(self, script: str, name: str) -> None:
        """Remove a secret that is there; makes and deploys a version without it."""
        self.delete(f"/workers/scripts/{script}/secrets/{name}", params={"url_encoded": "true"})

    def purge_cache(self, zone_id: str, request: Mapping[str, Any]) -> None:
        """Purge the cache of a zone; `request` is one of the forms of the API."""
        self.call("POST", f"/zones/{zone_id}/purge_cache", account=False, body=request)

    def is_on_workers_dev(self, script: str) -> bool:
        return bool(self.call("GET", f"/workers/scripts/{script}/subdomain").get("enabled"))

    def set_workers_dev(self, script: str, *, enabled: bool) -> None:
        """Serve the script below workers.dev, or stop it; preview addresses stay off."""
        self.call("POST", f"/workers/scripts/{script}/subdomain", body={"enabled": enabled, "previews_enabled": False})

    def get_kv_text(self, namespace_id: str, key: str) -> str | None:
        """A value that is a text, None where the key is not there."""
        found = self.call("POST", f"/storage/kv/namespaces/{namespace_id}/bulk/get", body={"keys": [key]})
        text = found["values"].get(key)
        return None if text is None else str(text)

    def put_kv_value(self, namespace_id: str, key: str, value: bytes, *, expires_in_s: int = 0) -> None:
        """Store a value of at most 25 MiB in place of what is there, for ever or for so many seconds."""
        endpoint = f"/storage/kv/namespaces/{namespace_id}/values/{quote(key, safe='')}"
        params = {"expiration_ttl": str(expires_in_s)} if expires_in_s else {}
        self.call("PUT", endpoint, params=params, content=value, timeout=UPLOAD_TIMEOUT)

    def create_kv_namespace(self, title: str) -> str:
        """Create the namespace and return its id, or that of the one that has the title already."""
        try:
            return str(self.call("POST", "/storage/kv/namespaces", body={"title": title})["id"])
        except ApiError as exc:
            existing = self.find_kv_namespace(title) if TITLE_TAKEN in exc.codes else None
            if existing is None:
                raise
            return existing


def open_api(settings: SyncSettings) -> WorkersApi:
    """The account of these settings; use as a context manager."""
    return WorkersApi(api_token=settings.api_token, account_id=settings.account_id, base_url=settings.api_base_url)
