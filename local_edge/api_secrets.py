"""A script's secrets over the REST API: names are shown, values never; each change is a new version, deployed at once.

That it is deployed at once is why the latest version has to be the one that serves (10215).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from local_edge.bindings import (
    SECRET_TYPES,
    VARIABLE_COUNT_LIMIT,
    VARIABLE_TYPES,
    check_name,
    check_variable_size,
    shown_binding,
    shown_secrets,
)
from local_edge.envelope import RefusalError, answer, read_object
from local_edge.metadata import read_annotations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from local_edge.deploy import Deployer
    from local_edge.scripts import Scripts

BULK_LIMIT = 100
BULK_CONTENT_TYPE = "application/merge-patch+json"
NOT_DEPLOYED = (
    "Secret edit failed. You attempted to modify a secret, "
    "but the latest version of your Worker isn't currently deployed."
)


class SecretsApi:
    """Handlers for secrets and secrets-bulk below /accounts/{account}/workers/scripts/{script}."""

    def __init__(self, *, scripts: Scripts, deployer: Deployer) -> None:
        self._scripts = scripts
        self._deployer = deployer

    def routes(self) -> list[Route]:
        script = "/scripts/{script}"
        return [
            Route(f"{script}/secrets", self.list_secrets, methods=["GET"]),
            Route(f"{script}/secrets", self.put_secret, methods=["PUT"]),
            Route(f"{script}/secrets/{{secret}}", self.get_secret, methods=["GET"]),
            Route(f"{script}/secrets/{{secret}}", self.delete_secret, methods=["DELETE"]),
            Route(f"{script}/secrets-bulk", self.patch_secrets, methods=["PATCH"]),
        ]

    async def list_secrets(self, request: Request) -> Response:
        return answer(shown_secrets(self._scripts.latest(request.path_params["script"])))

    async def get_secret(self, request: Request) -> Response:
        return answer(self._find(request.path_params["script"], request.path_params["secret"]))

    def _find(self, script: str, name: str) -> dict[str, Any]:
        for secret in shown_secrets(self._scripts.latest(script)):
            if secret["name"] == name:
                return secret
        raise RefusalError(404, 10056, f"Binding {name!r} not found")

    async def put_secret(self, request: Request) -> Response:
        script = request.path_params["script"]
        self._scripts.get(script)
        secret = _read_secret(await read_object(request))
        await self._change(script, {secret["name"]: secret})
        return answer(shown_binding(secret))

    async def delete_secret(self, request: Request) -> Response:
        script, name = request.path_params["script"], request.path_params["secret"]
        self._find(script, name)
        await self._change(script, {name: None})
        return answer(None)

    async def patch_secrets(self, request: Request) -> Response:
        """Many at once in one version; null deletes."""
        script = request.path_params["script"]
        self._scripts.get(script)
        if request.headers.get("content-type", "").split(";")[0].strip() != BULK_CONTENT_TYPE:
            raise RefusalError(400, 10001, f"Content-Type must be {BULK_CONTENT_TYPE}")
        secrets = (await read_object(request)).get("secrets")
        if not isinstance(secrets, dict) or not 1 <= len(secrets) <= BULK_LIMIT:
            raise RefusalError(400, 10026, f"secrets must name 1 to {BULK_LIMIT} secrets")
        changes = {name: None if secret is None else _read_secret(secret) for name, secret in secrets.items()}
        if any(secret is not None and secret["name"] != name for name, secret in changes.items()):
            raise RefusalError(400, 10026, "a secret stands under its own name")
        await self._change(script, changes)
        return answer({name: shown_binding(secret) for name, secret in changes.items() if secret is not None})

    async def _change(self, script: str, changes: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Deploy the latest version with the secrets in `changes` set, or gone where they are None."""
        with self._deployer.changing(script):
            latest = self._deployer.get_deployed_latest(script, code=10215, message=NOT_DEPLOYED)
            for binding in latest.bindings:
                if binding["name"] in changes and binding["type"] not in SECRET_TYPES:
                    raise RefusalError(400, 10053, f"Binding name {binding['name']!r} already in use")
            others = [binding for binding in latest.bindings if binding["name"] not in changes]
            bindings = (*others, *(secret for secret in changes.values() if secret is not None))
            if sum(binding["type"] in VARIABLE_TYPES for binding in bindings) > VARIABLE_COUNT_LIMIT:
                raise RefusalError(400, 10055, f"more than {VARIABLE_COUNT_LIMIT} variables and secrets")
            annotations = read_annotations(None, triggered_by="secret")
            await self._deployer.publish(
                self._deployer.derive_version(latest, annotations=annotations, bindings=bindings)
            )


def _read_secret(body: Any) -> dict[str, str]:
    if not isinstance(body, dict):
        raise RefusalError(400, 10026, "a secret is {name, text, type: secret_text}")
    name, text, kind = body.get("name"), body.get("text"), body.get("type")
    if not isinstance(name, str) or not name or not isinstance(text, str) or kind != "secret_text":
        raise RefusalError(400, 10026, "a secret is {name, text, type: secret_text}")
    check_name(name)
    check_variable_size(name, text)
    return {"type": kind, "name": name, "text": text}
