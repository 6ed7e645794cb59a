"""A Worker of its own in an account on loopback: its operator's settings, runs of sync_job, and what is there after."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import pytest
import shop
from operators import operator_environ

from flagedge.cloudflare import RetryPolicy
from local_edge.scripts import Version
from local_edge.server import LocalEdge
from sync_job import contexts, gate, official
from sync_job.assemble import digest_settings
from sync_job.job import RunOptions, RunResult, run
from sync_job.settings import read_sync_settings
from sync_job.token_keys import FIRST_NAME
from sync_job.workers_api import WorkersApi

COMMAND = Path(sys.executable).parent / "sync-job"
CALL_PREFIXES = ("/client/v4/", "/cdn/")
CALLS = r"[A-Z]+ /(client/v4|cdn)/"
"""What a run asks of others, for the `match` of a fault."""
_numbers = itertools.count(1)


@dataclass
class Site:
    """A Worker with queues and namespaces under a prefix of its own; `folder` is for its lease."""

    edge: LocalEdge
    folder: Path
    prefix: str = field(default_factory=lambda: f"site-{next(_numbers)}")
    probe_url: str = ""

    @property
    def environ(self) -> dict[str, str]:
        """The operator's settings; tokens are sealed and sticky assignments on."""
        return operator_environ(self.edge, shop.WEB_SECRET) | {
            "PROBE_URL": self.probe_url,
            "WORKER_NAME_PREFIX": self.prefix,
            "LEASE": str(self.folder / f"{self.prefix}.lease"),
            "FORCE_APPLY": "false",
            "ENABLE_STICKY_ASSIGNMENTS": "true",
        }

    @property
    def worker_name(self) -> str:
        return f"{self.prefix}-confidence-cloudflare-resolver"

    @property
    def queue_name(self) -> str:
        return f"{self.prefix}-flag-logs-queue"

    @property
    def namespace_title(self) -> str:
        return f"{self.prefix}-resolver-materializations"

    def publish(self, state: bytes) -> None:
        self.edge.publish_state(shop.WEB_SECRET, state)

    def run(
        self,
        options: RunOptions | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        **changes: str,
    ) -> RunResult:
        """One pass in this process; `changes` are settings for it alone."""
        settings = read_sync_settings(self.environ | changes)
        with WorkersApi(
            api_token=settings.api_token,
            account_id=settings.account_id,
            base_url=settings.api_base_url,
            retry=RetryPolicy(base_s=0.1),
            transport=transport,
            sleep=sleep,
        ) as api:
            return run(settings, api, options)

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """`sync-job` as a process of its own."""
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SSL_CERT_FILE") if name in os.environ}
        environ = inherited | {"HOME": str(self.folder)} | self.environ | changes
        return subprocess.Popen(
            [COMMAND, *arguments], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def calls(self) -> list[str]:
        """`METHOD last-path-segment` of what was asked of API and CDN since the log was emptied."""
        with urlopen(f"{self.edge.url}/local/requests") as answer:
            made = json.load(answer)
        return [
            f"{call['method']} {_shorten(call['path'], self.worker_name)}"
            for call in made
            if call["path"].startswith(CALL_PREFIXES)
        ]

    @property
    def url(self) -> str:
        return self.edge.worker_url(self.worker_name)

    def describe(self) -> dict[str, Any]:
        """What the account holds for this Worker, without ids and times, so that two ways there can be compared."""
        scripts = self.edge.edge.scripts
        script, version = scripts.get(self.worker_name), scripts.live(self.worker_name)
        found = {
            "shares": [share.percentage for share in scripts.active(self.worker_name).shares],
            "the live version is the latest": scripts.latest(self.worker_name).version_id == version.version_id,
            "message": version.annotations["workers/message"],
            "modules": version.etag,
            "metadata": dict(version.metadata) | {"date": version.compatibility_date},
            "bindings": self._bindings(version),
            "script": dict(script.settings),
            "workers.dev": (script.subdomain_enabled, script.previews_enabled),
            "queues": self._queues(),
            "namespaces": sorted(self._namespaces().values()),
        }
        without_prefix: dict[str, Any] = json.loads(json.dumps(found).replace(f"{self.prefix}-", ""))
        return without_prefix

    def _bindings(self, version: Version) -> dict[str, Any]:
        namespaces = self._namespaces()
        found: dict[str, Any] = {}
        for binding in version.bindings:
            name, value = binding["name"], binding.get("text")
            if name == "DEPLOYMENT_OCCASION":
                continue  # Every deployment's own.
            if binding["type"] == "kv_namespace":
                value = namespaces[binding["namespace_id"]]
            elif binding["type"] == "queue":
                value = binding["queue_name"]
            elif name.startswith("RESOLVE_TOKEN_"):
                continue  # Keys are random: `token_keys` tells of them.
            elif name == "STATE_SINCE" and 0 <= time.time() - int(value) < 3600:
                value = "lately"
            elif name == "SETTINGS_DIGEST" and value == self._digest():
                value = "right"
            found[name] = (binding["type"], value)
        return found

    def _digest(self) -> str:
        settings = read_sync_settings(self.environ)
        return digest_settings(settings.worker, {"CONFIDENCE_CLIENT_SECRET": settings.client_secret})

    def _namespaces(self) -> dict[str, str]:
        namespaces = self.edge.edge.namespaces.all()
        return {each["id"]: each["title"] for each in namespaces if each["title"].startswith(f"{self.prefix}-")}

    def _queues(self) -> dict[str, Any]:
        queues = self.edge.edge.queues
        return {
            queue.queue_name: [
                {key: value for key, value in consumer.items() if key not in {"consumer_id", "created_on"}}
                for consumer in queues.consumers(queue)
            ]
            for queue in queues.all()
            if queue.queue_name.startswith(f"{self.prefix}-")
        }

    def bound_texts(self) -> dict[str, str]:
        """The values of the live version's variables and secrets."""
        version = self.edge.edge.scripts.live(self.worker_name)
        return {binding["name"]: binding["text"] for binding in version.bindings if "text" in binding}

    def token_keys(self) -> dict[str, set[str]]:
        """Every value that a token key ever had, in any version, by its secret's name."""
        found: dict[str, set[str]] = defaultdict(set)
        for version in self.edge.edge.scripts.versions(self.worker_name):
            for name, text in _bound_keys(version).items():
                found[name].add(text)
        return dict(found)

    def check_token_keys(self) -> None:
        """What the live version says of its keys is true of the secrets that are bound."""
        version, texts = self.edge.edge.scripts.live(self.worker_name), self.bound_texts()
        bound = {name: hashlib.sha256(b64decode(text)).hexdigest()[:8] for name, text in _bound_keys(version).items()}
        recorded = json.loads(texts["RESOLVE_TOKEN_KEYS"])
        # A key that somebody else bound has no id in our record.
        assert {key["name"]: key["kid"] or bound[key["name"]] for key in recorded} == bound
        assert texts["RESOLVE_TOKEN_SEALING_KEY"] == recorded[-1]["name"]

    def remove(self) -> None:
        """Leave nothing of it in the account, above all no processes."""
        base = f"{self.edge.api_url}/accounts/{self.edge.edge.account_id}"
        with httpx.Client(base_url=base, headers={"authorization": "Bearer t"}, verify=False) as http:
            http.delete(f"/workers/scripts/{self.worker_name}", params={"force": "true"})
            for queue in self.edge.edge.queues.all():
                if queue.queue_name.startswith(f"{self.prefix}-"):
                    http.delete(f"/queues/{queue.queue_id}").raise_for_status()
            for namespace_id in self._namespaces():
                http.delete(f"/storage/kv/namespaces/{namespace_id}").raise_for_status()


def prove_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions prove their state and that they answer, no more: what they answer is seen by others than the gate."""
    monkeypatch.setattr(gate.Gate.__init__, "__defaults__", (1, 3.0, None, time.sleep))
    monkeypatch.setattr(contexts, "_UNIT_DRAWS", 20)
    monkeypatch.setattr(official, "is_installed", lambda: False)


def _bound_keys(version: Version) -> dict[str, str]:
    return {
        binding["name"]: binding["text"]
        for binding in version.bindings
        if binding["type"] == "secret_text" and binding["name"].startswith(FIRST_NAME)
    }


def _shorten(path: str, worker_name: str) -> str:
    if path.startswith("/cdn/"):
        return "state"
    last = path.rsplit("/", 1)[-1]
    return "script" if last == worker_name else last
