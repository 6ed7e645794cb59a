"""An account as the official deployer leaves it: its Worker's stand-in, queue, push consumer, secret and KV.

Source: the deployer's flow and wrangler.toml, resolver spec 6.1 and 6.2. The stand-in answers with what the official
resolver says of known visitors, and with that resolver's own tokens, sealed as the official Worker seals them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import httpx
import shop
from oracle import Oracle, Resolved
from sync_site import Site
from watch import resolve_body

from flagedge.wire import token_pb2
from sync_job.token import seal_upstream_token

TOKEN_KEY = bytes(range(40, 56))
ORIGIN = "https://shop.example"
OLD_ETAG = "5d41402abc4b2a76b9719d911017c592"
_SCRIPT = """
const answers = %s;
export default {
  async fetch(request) {
    const { evaluationContext } = await request.json();
    if (new URL(request.url).pathname === "/v1/flags:apply") return new Response(null, { status: 200 });
    return Response.json(answers[evaluationContext.visitor_id]);
  },
  async queue(batch) { batch.ackAll(); },
};
"""


@dataclass(frozen=True, slots=True)
class OfficialAnswer:
    """What a visitor got from the official Worker."""

    flags: Mapping[str, dict[str, Any]]
    resolve_id: str
    token: str
    """Base64, sealed with `TOKEN_KEY`."""


def official_answers(state: bytes, contexts: Sequence[Mapping[str, Any]]) -> dict[str, OfficialAnswer]:
    """By the visitor's id."""
    oracle = Oracle(state)
    answers = {}
    for context in contexts:
        resolved = oracle.resolve(resolve_body(context))
        assert isinstance(resolved, Resolved)
        body = token_pb2.ResolveToken.FromString(resolved.resolve_token).token_v1
        token = base64.b64encode(seal_upstream_token(body, TOKEN_KEY)).decode()
        answers[context["visitor_id"]] = OfficialAnswer(resolved.flags, resolved.resolve_id, token)
    return answers


def record_key(unit: str, materialization: str, rule: str) -> str:
    """The KV key of a sticky assignment, as the official Worker writes it."""
    parts = (part.replace("%", "%25").replace(":", "%3A") for part in (unit, materialization, rule))
    return "mat:" + ":".join(parts)


class OfficialDeployer:
    """What the deployer and wrangler ask of Cloudflare, for the Worker of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        base = f"{site.edge.api_url}/accounts/{site.edge.edge.account_id}"
        self._http = httpx.Client(base_url=base, headers={"authorization": "Bearer t"}, timeout=30, verify=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        answer = self._http.request(method, path, json=body, **options)
        assert answer.json()["success"], answer.text
        return answer.json()["result"]

    def deploy(self, answers: Mapping[str, OfficialAnswer], records: Mapping[str, str] | None = None) -> None:
        """Queue, namespace with `records`, Worker, its address, its push consumer, and then its secret."""
        site = self._site
        queue_id = self.call("POST", "/queues", {"queue_name": site.queue_name})["queue_id"]
        namespace_id = self.call("POST", "/storage/kv/namespaces", {"title": site.namespace_title})["id"]
        for key, value in (records or {}).items():
            path = f"/storage/kv/namespaces/{namespace_id}/values/{quote(key, safe='')}"
            self._http.put(path, content=value.encode()).raise_for_status()
        script = f"/workers/scripts/{site.worker_name}"
        self.call("PUT", script, files=self._upload(answers, namespace_id))
        self.call("POST", f"{script}/subdomain", {"enabled": True})
        consumer = {
            "type": "worker",
            "script_name": site.worker_name,
            "settings": {"batch_size": 100, "max_wait_time_ms": 10_000},
        }
        self.call("POST", f"/queues/{queue_id}/consumers", consumer)
        key = base64.b64encode(TOKEN_KEY).decode()
        self.call(
            "PUT", f"{script}/secrets", {"name": "RESOLVE_TOKEN_ENCRYPTION_KEY", "text": key, "type": "secret_text"}
        )

    def _upload(self, answers: Mapping[str, OfficialAnswer], namespace_id: str) -> list[tuple[str, Any]]:
        variables = {
            "CONFIDENCE_CLIENT_SECRET": shop.WEB_SECRET,
            "ALLOWED_ORIGIN": ORIGIN,
            "RESOLVER_STATE_ETAG": OLD_ETAG,
            "DEPLOYER_VERSION": "v0.9.0",
        }
        bindings: list[dict[str, str]] = [
            {"type": "plain_text", "name": name, "text": text} for name, text in variables.items()
        ]
        bindings += [
            {"type": "queue", "name": "flag_logs_queue", "queue_name": self._site.queue_name},
            {"type": "kv_namespace", "name": "CONFIDENCE_MATERIALIZATIONS_KV", "namespace_id": namespace_id},
        ]
        metadata = {
            "main_module": "shim.mjs",
            "compatibility_date": "2025-01-28",
            "bindings": bindings,
            "observability": {"enabled": True},
        }
        bodies = {
            visitor: {
                "resolvedFlags": list(answer.flags.values()),
                "resolveToken": answer.token,
                "resolveId": answer.resolve_id,
            }
            for visitor, answer in answers.items()
        }
        script = _SCRIPT % json.dumps(bodies)
        return [
            ("metadata", (None, json.dumps(metadata), "application/json")),
            ("shim.mjs", ("shim.mjs", script, "application/javascript+module")),
        ]

    def push_messages(self, *bodies: Any) -> None:
        """Flag logs that the official Worker sent and nobody has taken yet."""
        messages = [{"body": body} for body in bodies]
        self.call("POST", f"/queues/{self.queue_id}/messages/batch", {"messages": messages})

    @property
    def queue_id(self) -> str:
        queues = self.call("GET", "/queues", params={"name": self._site.queue_name})
        return str(queues[0]["queue_id"])
