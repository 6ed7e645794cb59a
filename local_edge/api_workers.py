"""The scripts of the account over the REST API: upload, list, read, delete; and the account's workers.dev name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from local_edge.bindings import Account
from local_edge.envelope import RefusalError, answer, read_object
from local_edge.metadata import SCRIPT_SETTINGS, check_metadata, read_annotations, read_script_settings
from local_edge.upload import check_modules, check_script_name, read_form

if TYPE_CHECKING:
    from starlette.requests import Request

    from local_edge.deploy import Deployer
    from local_edge.runtime import Runtime
    from local_edge.scripts import Scripts, Version
    from local_edge.store import Store

SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SUBDOMAIN_SETTING = "subdomain"
SCRIPT_COUNT_LIMIT = 500


class WorkersApi:
    """Handlers for /accounts/{account}/workers."""

    def __init__(
        self, *, store: Store, scripts: Scripts, runtime: Runtime, account: Account, deployer: Deployer
    ) -> None:
        self._store = store
        self._scripts = scripts
        self._runtime = runtime
        self._account = account
        self._deployer = deployer

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

    async def list_scripts(self, request: Request) -> Response:
        """All of them, or those that `tags=<tag>:yes,<tag>:no` asks for."""
        scripts = [self._describe(self._scripts.live(name)) for name in self._scripts.names()]
        for wish in filter(None, request.query_params.get("tags", "").split(",")):
            tag, _, wanted = wish.rpartition(":")
            if not tag or wanted not in {"yes", "no"}:
                raise RefusalError(400, 10026, "tags is a list of <tag>:yes or <tag>:no")
            scripts = [script for script in scripts if (tag in script["tags"]) == (wanted == "yes")]
        return answer(scripts)

    async def get_script(self, request: Request) -> Response:
        version = self._scripts.live(request.path_params["script"])
        code = (self._store.blobs / version.modules[0].digest).read_bytes()
        return Response(code, media_type="application/javascript+module")

    async def put_script(self, request: Request) -> Response:
        """Upload a version and give it all traffic at once."""
        name = request.path_params["script"]
        check_script_name(name)
        metadata, parts = await read_form(request)
        check_metadata(metadata)
        parts = check_modules(metadata, parts)
        annotations = read_annotations(metadata.get("annotations"), triggered_by="upload")
        settings = {**SCRIPT_SETTINGS, **read_script_settings(metadata, self._account)}
        strict = request.query_params.get("bindings_inherit") == "strict"
        with self._deployer.changing(name):
            if self._scripts.find(name) is None and len(self._scripts.names()) >= SCRIPT_COUNT_LIMIT:
                raise RefusalError(400, 10037, f"An account has at most {SCRIPT_COUNT_LIMIT} Workers")
            version = await self._deployer.make_version(name, metadata, parts, annotations=annotations, strict=strict)
            await self._deployer.publish(version)
            self._scripts.set_settings(name, settings)
        described = self._describe(version)
        described |= {"startup_time_ms": version.startup_ms, "deployment_id": version.version_id.replace("-", "")}
        return answer(described)

    async def delete_script(self, request: Request) -> Response:
        name = request.path_params["script"]
        with self._deployer.changing(name):
            self._scripts.get(name)
            if request.query_params.get("force") != "true":
                self._check_unused(name)
            await self._runtime.remove(name)
            self._scripts.delete(name)
        return answer(None)

    def _check_unused(self, name: str) -> None:
        for other in self._scripts.names():
            bindings = [binding for version in self._scripts.deployed(other) for binding in version.bindings]
            if other != name and any(binding.get("service") == name for binding in bindings):
                raise RefusalError(400, 10142, f"Worker {name} is still bound by {other}")
        if self._account.is_consumer(name):
            raise RefusalError(400, 10142, f"Worker {name} still consumes a queue")

    def _describe(self, version: Version) -> dict[str, Any]:
        script = self._scripts.get(version.script)
        return {
            "id": version.script,
            "etag": version.etag,
            "entry_point": version.modules[0].name,
            "handlers": version.handlers,
            "named_handlers": version.named_handlers,
            "has_modules": True,
            "has_assets": False,
            "compatibility_date": version.compatibility_date,
            "compatibility_flags": version.compatibility_flags,
            "created_on": script.created_on,
            "modified_on": script.modified_on,
            "tag": None,
            **SCRIPT_SETTINGS,
            **script.settings,
            "last_deployed_from": "api",
            "usage_model": "standard",
        }
