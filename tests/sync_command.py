"""`sync-job` as a test calls it: settings of an operator in the environment, and what the command says."""

from __future__ import annotations

import os
import time
from typing import Any

import httpx
import pytest
import shop

from sync_job.cli import main

WORKER = "confidence-cloudflare-resolver"
API_PREFIXES = ("CLOUDFLARE_", "CONFIDENCE_", "RESOLVE_TOKEN_", "STATE_ENCRYPTION_", "WRANGLER_")


class Sync:
    """Runs the command with an operator's settings; nothing of the developer's own environment is seen."""

    def __init__(self, operator: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.operator = operator
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """`sync-job run`: exit code, stdout, stderr."""
        return self.command("run", *arguments, **settings)

    def command(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr; `settings` hold for this call alone."""
        with self._monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(API_PREFIXES)]:
                patch.delenv(name)
            for name, value in (self.operator.environ | settings).items():
                patch.setenv(name, value)
            code = main(arguments)
        out, err = self._capsys.readouterr()
        return code, out, err

    def requests(self) -> list[str]:
        """`METHOD last-path-segment` of each call since the last time, but for what Workers send to queues."""
        url = f"{self.operator.edge.url}/local/requests"
        calls = httpx.get(url).json()
        httpx.delete(url)
        made = [f"{call['method']} {call['path'].rsplit('/', 1)[-1]}" for call in calls]
        return [call for call in made if call not in {"POST message", "POST batch"}]

    def account_id(self) -> str:
        """Of the account on loopback."""
        accounts = httpx.get(f"{self.operator.edge.api_url}/accounts", headers={"authorization": "Bearer t"}).json()
        account_id: str = accounts["result"][0]["id"]
        return account_id

    def resolve(self, **context: Any) -> dict[str, str]:
        """Variants by flag."""
        answer = httpx.post(
            f"{self.operator.edge.worker_url(WORKER)}/v1/flags:resolve",
            json={"clientSecret": shop.WEB_SECRET, "evaluationContext": context, "apply": True},
        )
        return {flag["flag"]: flag.get("variant", "") for flag in answer.raise_for_status().json()["resolvedFlags"]}

    def resolve_token(self) -> str:
        """A token for a resolve that does not apply; with FORCE_APPLY there is none."""
        body = {"clientSecret": shop.WEB_SECRET, "evaluationContext": {"visitor_id": "v"}, "apply": False}
        answer = httpx.post(f"{self.operator.edge.worker_url(WORKER)}/v1/flags:resolve", json=body).raise_for_status()
        token: str = answer.json()["resolveToken"]
        return token

    def apply_status(self, token: str) -> int:
        """What `flags:apply` answers for the token."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body = {
            "clientSecret": shop.WEB_SECRET,
            "resolveToken": token,
            "sendTime": now,
            "flags": [{"flag": "flags/live-chat", "applyTime": now}],
        }
        return httpx.post(f"{self.operator.edge.worker_url(WORKER)}/v1/flags:apply", json=body).status_code
