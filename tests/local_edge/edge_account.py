"""A client of the account under test that shows answers as they are, errors included."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from local_edge.server import LocalEdge

HELLO = "export default { fetch(request, env) { return Response.json({ greeting: env.GREETING ?? 'hello' }); } };"
JAVASCRIPT = "application/javascript+module"
_numbers = itertools.count(1)


def new_name(kind: str) -> str:
    """A name that no other test uses."""
    return f"{kind}-{next(_numbers)}"


class Answer:
    """An answer of the API, taken apart."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.body = response.json()

    @property
    def result(self) -> Any:
        assert self.body["success"] is True, self.body
        return self.body["result"]

    @property
    def refusal(self) -> tuple[int, int]:
        """HTTP status and numeric code."""
        assert self.body["success"] is False, self.body
        return self.status, self.body["errors"][0]["code"]


class EdgeAccount:
    """Calls below /accounts/{account} of a running LocalEdge."""

    def __init__(self, edge: LocalEdge) -> None:
        self.edge = edge
        base = f"{edge.api_url}/accounts/{edge.edge.account_id}"
        self.http = httpx.Client(base_url=base, headers={"authorization": "Bearer test"}, timeout=30)

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        return Answer(self.http.request(method, path, json=body, **options))

    def upload(
        self,
        script: str,
        code: str = HELLO,
        *,
        bindings: Sequence[Mapping[str, Any]] = (),
        modules: Sequence[tuple[str, str | bytes, str]] = (),
        strict: bool = True,
        **metadata: Any,
    ) -> Answer:
        """PUT a Worker whose main module is main.js."""
        described = {
            "main_module": "main.js",
            "compatibility_date": "2026-10-01",
            "bindings": list(bindings),
            **metadata,
        }
        files = [("metadata", (None, json.dumps(described), "application/json"))]
        files += [(name, (name, content, kind)) for name, content, kind in [("main.js", code, JAVASCRIPT), *modules]]
        params = {"bindings_inherit": "strict"} if strict else {}
        return Answer(self.http.put(f"/workers/scripts/{script}", files=files, params=params))

    def publish(self, script: str, code: str = HELLO, **options: Any) -> str:
        """Upload, enable workers.dev, and return the address."""
        assert self.upload(script, code, **options).result
        assert self.call("POST", f"/workers/scripts/{script}/subdomain", {"enabled": True}).result["enabled"]
        return self.edge.worker_url(script)

    def create_queue(self, *, consumer: bool = True, dead_letter_queue: str = "", **settings: int) -> tuple[str, str]:
        """A new queue's id and name, with a pull consumer unless told otherwise."""
        name = new_name("queue")
        queue_id = self.call("POST", "/queues", {"queue_name": name}).result["queue_id"]
        if consumer:
            body = {"type": "http_pull", "dead_letter_queue": dead_letter_queue, "settings": settings}
            assert self.call("POST", f"/queues/{queue_id}/consumers", body).result
        return queue_id, name

    def push(self, queue_id: str, *bodies: Any) -> None:
        messages = [{"body": body} for body in bodies]
        assert self.call("POST", f"/queues/{queue_id}/messages/batch", {"messages": messages}).result

    def pull(self, queue_id: str, **options: int) -> list[dict[str, Any]]:
        return self.call("POST", f"/queues/{queue_id}/messages/pull", {"batch_size": 100, **options}).result["messages"]

    def ack(self, queue_id: str, *messages: dict[str, Any]) -> dict[str, Any]:
        body = {"acks": [{"lease_id": message["lease_id"]} for message in messages]}
        return self.call("POST", f"/queues/{queue_id}/messages/ack", body).result

    def set_faults(self, *faults: Mapping[str, Any]) -> None:
        httpx.post(f"{self.edge.url}/local/faults", json=list(faults)).raise_for_status()
