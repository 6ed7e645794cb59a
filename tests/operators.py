"""What an operator of an account on loopback has in the environment: settings that point at a `LocalEdge`."""

from __future__ import annotations

from local_edge.cdn import state_name
from local_edge.server import LocalEdge

API_TOKEN = "token-of-the-operator"


def operator_environ(edge: LocalEdge, secret: str, *, encrypted: bool = False) -> dict[str, str]:
    """Settings of both jobs for the client with `secret`, whose state the edge's CDN serves."""
    return {
        "CLOUDFLARE_API_TOKEN": API_TOKEN,
        "CLOUDFLARE_API_BASE_URL": edge.api_url,
        "CONFIDENCE_CLIENT_SECRET": secret,
        "LEASE": str(edge.directory / "sync-job.lease"),
        "STATE_ARCHIVE": str(edge.directory / "states"),
        "CONFIDENCE_RESOLVER_STATE_URL": f"{edge.cdn_url}/{state_name(secret, encrypted=encrypted)}",
    }
