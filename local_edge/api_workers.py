"""The Workers part of the REST API: scripts, their secrets, settings and workers.dev address."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from local_edge.envelope import RefusalError, answer, read_object
from local_edge.process import StartError, is_free
from local_edge.upload import (
    VARIABLE_BYTES_LIMIT,
    Account,
    check_modules,
    check_script_name,
    make_version,
    read_form,
    resolve_bindings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from local_edge.runtime import Runtime
    from local_edge.scripts import Scripts, Version
    from local_edge.store import Store

SECRET_TYPES = frozenset({"secret_text"})
SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SUBDOMAIN_SETTING = "subdomain"
SHOWN_SETTINGS: Mapping[str, Any] = {
    "limits": {},
    "logpush": False,
    "observability": {"enabled": False},
    "placement": {},
    "tags": [],
    "tail_consumers": [],
    "usage_model": "standard",
}


def shown_binding(binding: Mapping[str, Any]) -> dict[str, Any]:
    """A binding as settings show it: never with a secret's value."""
    hidden = {"text"} if binding["type"] in SECRET_TYPES else set()
    return {key: value for key, value in binding.items() if key not in hidden}


class WorkersApi:
    """Handlers for /accounts/{account}/workers."""

    def __init__(self, *, store: Store, scripts: Scripts, runtime: Runtime, account: Account, worker_port: int) -> None:
        self._store = store
        self._scripts = scripts
        self._runtime = runtime
        self._account = account
        self._worker_port = worker_port
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def routes(self) -> list[Route]:
        script = "/scripts/{script}"
        return [
            Route("/subdomain", self.get_subdomain, methods=["GET"]),
            Route("/subdomain", self.put_subdomain, methods=["PUT"]),
            Route("/subdomain", self.delete_subdomain, methods=["DELETE"]),
            Route("/scripts", self.list_scripts, methods=["GET"]),
            Route(script, self.get_script, methods=["GET"]),
            Route(script, self.put_script, methods=["PUT"]),
            Route(script, self.delete_script, methods=["DELETE"]),
            Route(f"{script}/settings", self.get_settings, methods=["GET"]),
            Route(f"{script}/secrets", self.list_secrets, methods=["GET"]),
            Route(f"{script}/secrets", self.put_secret, methods=["PUT"]),
            Route(f"{script}/secrets/{{secret}}", self.delete_secret, methods=["DELETE"]),
            Route(f"{script}/subdomain", self.get_script_subdomain, methods=["GET"]),
            Route(f"{script}/subdomain", self.set_script_subdomain, methods=["POST"]),
            Route(f"{script}/subdomain", self.unset_script_subdomain, methods=["DELETE"]),
        ]

    async def get_subdomain(self, _request: Request) -> Response:
        subdomain = self._store.read_setting(SUBDOMAIN_SETTING)
        if subdomain is None:
            raise RefusalError(404, 10007, "You do not have a workers.dev subdomain")
        return answer({"subdomain": subdomain})

    async def put_subdomain(self, request: Request) -> Response:
        subdomain = (await read_object(request)).get("subdomain")
        if not isinstance(subdomain, str) or not SUBDOMAIN.fullmatch(subdomain):
            raise RefusalError(400, 10026, "subdomain must be lower case letters, digits and dashes")
        self._store.write_setting(SUBDOMAIN_SETTING, subdomain)
        return answer({"subdomain": subdomain})

    async def delete_subdomain(self, _request: Request) -> Response:
        self._store.write_setting(SUBDOMAIN_SETTING, None)
        return answer(None)

    async def list_scripts(self, _request: Request) -> Response:
        return answer([self._describe(self._scripts.live(name)) for name in self._scripts.names()])

    async def get_script(self, request: Request) -> Response:
        version = self._scripts.live(request.path_params["script"])
        code = (self._store.blobs / version.modules[0].digest).read_bytes()
        return Response(code, media_type="application/javascript+module")

    async def put_script(self, request: Request) -> Response:
        name = request.path_params["script"]
        check_script_name(name)
        metadata, parts = await read_form(request)
        parts = check_modules(metadata, parts)
        strict = request.query_params.get("bindings_inherit") == "strict"
        async with self._locks[name]:
            previous = self._scripts.live(name) if self._scripts.find(name) else None
            bindings = resolve_bindings(metadata, previous, self._account, strict=strict)
            number = self._scripts.next_number(name)
            version = make_version(self._store, name, metadata, parts, number=number, bindings=bindings)
            startup_s = await self.deploy(version)
        described = self._describe(version)
        described |= {"startup_time_ms": round(startup_s * 1000), "deployment_id": version.version_id.replace("-", "")}
        return answer(described)

    async def deploy(self, version: Version) -> float:
        """Start, record, give all traffic; returns the seconds that starting took.

        What does not start is refused with 10021 before anything is recorded: the live version stays live.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            running = await self._runtime.start(version, port=self._choose_port(version.script))
        except StartError as exc:
            raise RefusalError(400, 10021, str(exc)) from exc
        took_s = loop.time() - began
        self._scripts.record(version)
        self._scripts.set_port(version.script, self._runtime.port(version.script) or 0)
        await self._runtime.switch(running)
        return took_s

    def _choose_port(self, name: str) -> int:
        """Where a script was, else the edge's own port for the first script, else any."""
        script = self._scripts.find(name)
        if script is not None and script.port:
            return script.port
        taken = {self._runtime.port(other) for other in self._scripts.names()}
        return 0 if self._worker_port in taken else self._worker_port

    async def restore(self) -> None:
        """Start every recorded script again, on its old port where that is free."""
        for name in self._scripts.names():
            script = self._scripts.get(name)
            port = script.port if script.port and is_free(script.port) else 0
            running = await self._runtime.start(self._scripts.live(name), port=port)
            self._scripts.set_port(name, self._runtime.port(name) or 0)
            await self._runtime.switch(running)
            await self._runtime.set_enabled(name, enabled=script.subdomain_enabled)

    async def delete_script(self, request: Request) -> Response:
        name = request.path_params["script"]
        async with self._locks[name]:
            self._scripts.get(name)
            if request.query_params.get("force") != "true" and (users := self._users_of(name)):
                raise RefusalError(400, 10142, f"Worker {name} is still bound by {', '.join(users)}")
            await self._runtime.remove(name)
            self._scripts.delete(name)
        return answer(None)

    def _users_of(self, name: str) -> list[str]:
        others = [self._scripts.live(other) for other in self._scripts.names() if other != name]
        return [other.script for other in others if any(b.get("service") == name for b in other.bindings)]

    async def get_settings(self, request: Request) -> Response:
        version = self._scripts.live(request.path_params["script"])
        shown = {key: version.metadata.get(key, default) for key, default in SHOWN_SETTINGS.items()}
        return answer(
            {
                "bindings": [shown_binding(binding) for binding in version.bindings],
                "compatibility_date": version.compatibility_date,
                "compatibility_flags": version.compatibility_flags,
                **shown,
            }
        )

    async def list_secrets(self, request: Request) -> Response:
        version = self._scripts.live(request.path_params["script"])
        return answer([shown_binding(binding) for binding in version.bindings if binding["type"] in SECRET_TYPES])

    async def put_secret(self, request: Request) -> Response:
        body = await read_object(request)
        name, text = body.get("name"), body.get("text")
        if not isinstance(name, str) or not name or not isinstance(text, str) or body.get("type") not in SECRET_TYPES:
            raise RefusalError(400, 10026, "a secret is {name, text, type: secret_text}")
        if len(text.encode()) > VARIABLE_BYTES_LIMIT:
            raise RefusalError(400, 10054, f"secret {name} is larger than {VARIABLE_BYTES_LIMIT} bytes")
        async with self._locks[request.path_params["script"]]:
            version = self._scripts.live(request.path_params["script"])
            taken = [binding for binding in version.bindings if binding["name"] == name]
            if taken and taken[0]["type"] not in SECRET_TYPES:
                raise RefusalError(400, 10053, f"Binding name {name!r} already in use")
            others = [binding for binding in version.bindings if binding["name"] != name]
            secret = {"type": "secret_text", "name": name, "text": text}
            await self.deploy(self._scripts.derive(version, (*others, secret)))
        return answer({"name": name, "type": "secret_text"})

    async def delete_secret(self, request: Request) -> Response:
        name = request.path_params["secret"]
        async with self._locks[request.path_params["script"]]:
            version = self._scripts.live(request.path_params["script"])
            left = tuple(b for b in version.bindings if b["name"] != name or b["type"] not in SECRET_TYPES)
            if len(left) == len(version.bindings):
                raise RefusalError(404, 10056, f"Binding {name!r} not found")
            await self.deploy(self._scripts.derive(version, left))
        return answer(None)

    async def get_script_subdomain(self, request: Request) -> Response:
        script = self._scripts.get(request.path_params["script"])
        return answer({"enabled": script.subdomain_enabled, "previews_enabled": script.previews_enabled})

    async def set_script_subdomain(self, request: Request) -> Response:
        name = request.path_params["script"]
        self._scripts.get(name)
        body = await read_object(request)
        enabled, previews = body.get("enabled"), body.get("previews_enabled", body.get("enabled"))
        if not isinstance(enabled, bool) or not isinstance(previews, bool):
            raise RefusalError(400, 10026, "enabled and previews_enabled are booleans")
        if enabled and self._store.read_setting(SUBDOMAIN_SETTING) is None:
            raise RefusalError(400, 10063, "You need a workers.dev subdomain in order to proceed")
        return await self._set_script_subdomain(name, enabled=enabled, previews=previews)

    async def unset_script_subdomain(self, request: Request) -> Response:
        name = request.path_params["script"]
        self._scripts.get(name)
        return await self._set_script_subdomain(name, enabled=False, previews=False)

    async def _set_script_subdomain(self, name: str, *, enabled: bool, previews: bool) -> Response:
        self._scripts.set_subdomain(name, enabled=enabled, previews_enabled=previews)
        await self._runtime.set_enabled(name, enabled=enabled)
        return answer({"enabled": enabled, "previews_enabled": previews})

    def _describe(self, version: Version) -> dict[str, Any]:
        script = self._scripts.find(version.script)
        return {
            "id": version.script,
            "etag": version.etag,
            "entry_point": version.modules[0].name,
            "handlers": ["fetch"],
            "has_modules": True,
            "has_assets": False,
            "compatibility_date": version.compatibility_date,
            "compatibility_flags": version.compatibility_flags,
            "created_on": script.created_on if script else version.created_on,
            "modified_on": script.modified_on if script else version.created_on,
            "tag": None,
            "tags": version.metadata.get("tags", []),
            "last_deployed_from": "api",
            "usage_model": "standard",
        }
