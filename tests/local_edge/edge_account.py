"""A client of the account under test that shows answers as they are, errors included."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from local_edge.server import LocalEdge

# Says which version answers.
WHICH = "export default { fetch(request, env) { return new Response(env.VERSION.id) } };"
VERSION = {"type": "version_metadata", "name": "VERSION"}
HELLO = "export default { fetch(request, env) { return Response.json({ greeting: env.GREETING ?? 'hello' }); } };"
JAVASCRIPT = "application/javascript+module"
_numbers = itertools.count(1)


def upload_form(
    code: str | bytes,
    *,
    bindings: Sequence[Mapping[str, Any]] = (),
    modules: Sequence[tuple[str, str | bytes, str]] = (),
    kind: str = JAVASCRIPT,
    **metadata: Any,
) -> list[tuple[str, tuple[str | None, str | bytes, str]]]:
    """The parts of a multipart upload; metadata that is None is left out."""
    described = {"main_module": "main.js", "compatibility_date": "2026-10-01", "bindings": list(bindings), **metadata}
    sent = {key: value for key, value in described.items() if value is not None}
    files = [("metadata", (None, json.dumps(sent), "application/json"))]
    return [*files, *((name, (name, body, type_)) for name, body, type_ in [("main.js", code, kind), *modules])]


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
        # Without certificates, which take longer to load than most tests to run.
        self.http = httpx.Client(base_url=base, headers={"authorization": "Bearer test"}, timeout=30, verify=False)

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        return Answer(self.http.request(method, path, json=body, **options))

    def upload(self, script: str, code: str | bytes = HELLO, *, strict: bool = True, **parts: Any) -> Answer:
        """PUT a Worker whose main module is main.js; `parts` are those of `upload_form`."""
        return self._upload("PUT", f"/workers/scripts/{script}", code, strict=strict, **parts)

    def upload_version(self, script: str, code: str | bytes = HELLO, *, strict: bool = True, **parts: Any) -> Answer:
        """The same as a version that nothing deploys."""
        return self._upload("POST", f"/workers/scripts/{script}/versions", code, strict=strict, **parts)

    def _upload(self, method: str, path: str, code: str | bytes, *, strict: bool, **parts: Any) -> Answer:
        params = {"bindings_inherit": "strict"} if strict else {}
        return Answer(self.http.request(method, path, files=upload_form(code, **parts), params=params))

    def deploy(self, script: str, shares: Mapping[str, float], *, force: bool = False, **fields: Any) -> Answer:
        """Give the traffic to versions by their ids."""
        versions = [{"version_id": each, "percentage": percentage} for each, percentage in shares.items()]
        body = {"strategy": "percentage", "versions": versions, **fields}
        params = {"force": "true"} if force else {}
        return self.call("POST", f"/workers/scripts/{script}/deployments", body, params=params)

    def start_versions(self, script: str, count: int) -> tuple[str, list[str]]:
        """A script at its address with so many versions that say their ids; the first is live."""
        url = self.publish(script, WHICH, bindings=[VERSION])
        ids = [self.active(script)["versions"][0]["version_id"]]
        while len(ids) < count:
            ids.append(self.upload_version(script, WHICH, bindings=[VERSION]).result["id"])
        return url, ids

    def active(self, script: str) -> dict[str, Any]:
        """The active deployment."""
        return self.call("GET", f"/workers/scripts/{script}/deployments").result["deployments"][0]

    def latest(self, script: str) -> dict[str, Any]:
        """The newest version, whole."""
        newest = self.call("GET", f"/workers/scripts/{script}/versions").result["items"][0]["id"]
        return self.call("GET", f"/workers/scripts/{script}/versions/{newest}").result

    def publish(self, script: str, code: str | bytes = HELLO, **options: Any) -> str:
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
        self.edge.set_faults(*faults)
