"""A Worker whose plans come from KV, and somebody who can write there what sync_job would not."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import shop
from operators import API_TOKEN, operator_environ

from flagedge.cloudflare import RetryPolicy
from flagedge.settings import Secret
from local_edge.server import LocalEdge
from sync_job import job
from sync_job.compile import compile_plan
from sync_job.compiled import PLAN_FORMAT, Plan
from sync_job.decode import decode_state
from sync_job.hot_state import worker_key
from sync_job.occasion import Occasion
from sync_job.pointer import KEY, Bundle, Pointer, digest_part, write_pointer
from sync_job.publish import split_plan
from sync_job.settings import SyncSettings, read_sync_settings
from sync_job.workers_api import WorkersApi

MAC_KEY = base64.b64encode(bytes(range(32))).decode()
TTL_MS = 100
PATIENCE_S = 10.0


def hot_environ() -> dict[str, str]:
    """Settings that publish to KV, with a Worker that looks there all the time."""
    return {"PUBLISH": "kv", "STATE_MAC_KEY": MAC_KEY, "RULES_TTL_MS": str(TTL_MS), "FORCE_APPLY": "false"}


@dataclass
class HotWorker:
    """Deployed with the shop's state; `prefix` tells several on one account apart."""

    edge: LocalEdge
    folder: Path
    prefix: str = ""
    is_proved: bool = False
    """Whether runs prove what they deploy and publish; wants a Worker."""

    @property
    def environ(self) -> dict[str, str]:
        """The operator's settings."""
        probe_url = {"PROBE_URL": self.url} if self.is_proved else {}
        lease = {"LEASE": str(self.folder / f"{self.prefix}.lease"), "WORKER_NAME_PREFIX": self.prefix}
        return operator_environ(self.edge, shop.WEB_SECRET) | hot_environ() | lease | probe_url

    @property
    def settings(self) -> SyncSettings:
        return read_sync_settings(self.environ)

    def run(self, options: job.RunOptions | None = None, **changes: str) -> job.RunResult:
        """One pass; `changes` are settings for it alone."""
        with self.open_api() as api:
            return job.run(read_sync_settings(self.environ | changes), api, options)

    def open_api(self) -> WorkersApi:
        retry = RetryPolicy(attempts=2, base_s=0.01)
        return WorkersApi(api_token=Secret(API_TOKEN), base_url=self.edge.api_url, retry=retry)

    def deploy(self) -> None:
        """In a fresh isolate, with the shop's state."""
        self.edge.publish_state(shop.WEB_SECRET, shop.shop_payload())
        self.run(job.RunOptions(force=True))

    @property
    def url(self) -> str:
        return self.edge.worker_url(self.worker_name)

    @property
    def worker_name(self) -> str:
        return f"{self.prefix}-confidence-cloudflare-resolver" if self.prefix else "confidence-cloudflare-resolver"

    @property
    def namespace_id(self) -> str:
        title = dict(self.settings.worker.namespaces)["CONFIDENCE_STATE_KV"]
        with self.open_api() as api:
            found = api.find_kv_namespace(title)
        assert found
        return found

    def put(self, key: str, value: bytes) -> None:
        with self.open_api() as api:
            api.put_kv_value(self.namespace_id, key, value)

    def delete(self, key: str) -> None:
        with self.open_api() as api:
            api.delete_kv_keys(self.namespace_id, [key])

    def put_plan(self, plan: Plan) -> None:
        for key, value in split_plan(plan, without_bits_of=Bundle()):
            self.put(key, value)

    def point(self, pointer: Pointer, *, settings: SyncSettings | None = None) -> str:
        """Store a pointer, signed by this Worker's key or by that of other settings."""
        text = write_pointer(pointer, worker_key(settings or self.settings))
        self.put(KEY, text.encode())
        return text

    def state(self) -> dict[str, Any]:
        """What the Worker says of what it serves."""
        state: dict[str, Any] = httpx.get(f"{self.url}/v1/health").raise_for_status().json()["state"]
        return state

    def await_state(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first state that is as wanted; every look is a request, behind which the Worker may look into KV."""
        until_s = time.monotonic() + PATIENCE_S
        while not is_so(state := self.state()):
            assert time.monotonic() < until_s, state
            time.sleep(0.02)
        return state

    def resolve(self, **context: Any) -> dict[str, str]:
        """Variants by flag."""
        body = {"clientSecret": shop.WEB_SECRET, "evaluationContext": context, "apply": True}
        answer = httpx.post(f"{self.url}/v1/flags:resolve", json=body).raise_for_status().json()
        return {flag["flag"]: flag.get("variant", "") for flag in answer["resolvedFlags"]}


def changed_plan(etag: str = '"changed"', **padding: int) -> Plan:
    """That of the shop's other state; `bits_bytes` more of zeros behind its bitsets."""
    plan = compile_plan(decode_state(shop.changed_shop_payload()), etag=etag)
    return replace(plan, bits=plan.bits + bytes(padding.get("bits_bytes", 0)))


def pointer_to(plan: Plan, **changes: Any) -> Pointer:
    """A right pointer, newer than all before, but for the changes."""
    now_ms = time.time_ns() // 1_000_000
    pointer = Pointer(
        sequence=now_ms,
        published_at_s=now_ms // 1000,
        expires_at_s=now_ms // 1000 + 600,
        behind_since_s=now_ms // 1000,
        plan_format=PLAN_FORMAT,
        account=plan.account,
        etag=plan.etag,
        text=digest_part(plan.text.encode()),
        bits=digest_part(plan.bits),
        occasion=Occasion(),
    )
    return replace(pointer, **changes)
