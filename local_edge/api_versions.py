"""A script's versions over the REST API: made by an upload that deploys nothing, listed, read.

The first upload of a script must be a PUT of the script itself: a version needs a Worker to belong to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from local_edge.bindings import shown_binding
from local_edge.deploy import ROLLBACK_DEPTH
from local_edge.envelope import RefusalError, answer, read_page
from local_edge.metadata import VERSION_SETTINGS, check_metadata, read_annotations
from local_edge.upload import check_modules, read_form

if TYPE_CHECKING:
    from starlette.requests import Request

    from local_edge.deploy import Deployer
    from local_edge.scripts import Scripts, Version

AUTHOR_ID = "0" * 32
AUTHOR_EMAIL = "operator@local-edge.invalid"
PER_PAGE = 10


def describe_version(version: Version) -> dict[str, Any]:
    """A version as lists have it."""
    return {
        "id": version.version_id,
        "number": version.number,
        "metadata": {
            "created_on": version.created_on,
            "modified_on": version.created_on,
            "source": "api",
            "author_id": AUTHOR_ID,
            "author_email": AUTHOR_EMAIL,
            "hasPreview": False,
        },
        "annotations": dict(version.annotations),
    }


def describe_resources(version: Version) -> dict[str, Any]:
    settings = {**VERSION_SETTINGS, **version.metadata}
    return {
        "bindings": [shown_binding(binding) for binding in version.bindings],
        "script": {
            "etag": version.etag,
            "handlers": version.handlers,
            "named_handlers": version.named_handlers,
            "last_deployed_from": "api",
        },
        "script_runtime": {
            "compatibility_date": version.compatibility_date,
            "compatibility_flags": version.compatibility_flags,
            "limits": settings["limits"],
            "usage_model": settings["usage_model"],
        },
    }


class VersionsApi:
    """Handlers for /accounts/{account}/workers/scripts/{script}/versions."""

    def __init__(self, *, scripts: Scripts, deployer: Deployer) -> None:
        self._scripts = scripts
        self._deployer = deployer

    def routes(self) -> list[Route]:
        versions = "/scripts/{script}/versions"
        return [
            Route(versions, self.list_versions, methods=["GET"]),
            Route(versions, self.create_version, methods=["POST"]),
            Route(f"{versions}/{{version}}", self.get_version, methods=["GET"]),
        ]

    async def create_version(self, request: Request) -> Response:
        """Upload a version; its script's own settings (tags, logs) stay as they are, whatever the metadata says."""
        name = request.path_params["script"]
        self._scripts.get(name)
        metadata, parts = await read_form(request)
        if metadata.get("migrations"):
            raise RefusalError(400, 10211, "Versions cannot carry Durable Object migrations: upload the script")
        check_metadata(metadata)
        parts = check_modules(metadata, parts, script_code=10216)
        annotations = read_annotations(metadata.get("annotations"), triggered_by="create_version_api")
        strict = request.query_params.get("bindings_inherit") == "strict"
        with self._deployer.changing(name):
            version = await self._deployer.make_version(name, metadata, parts, annotations=annotations, strict=strict)
            self._scripts.add_version(version)
        return answer(_describe_whole(version))

    async def list_versions(self, request: Request) -> Response:
        """Newest first, without their resources; `deployable=true` leaves out what is too old to roll back to."""
        deployable = request.query_params.get("deployable") == "true"
        versions = self._scripts.versions(request.path_params["script"], limit=ROLLBACK_DEPTH if deployable else -1)
        shown, info = read_page(request, versions, default_per_page=PER_PAGE)
        return answer({"items": [describe_version(version) for version in shown]}, result_info=info)

    async def get_version(self, request: Request) -> Response:
        self._scripts.get(request.path_params["script"])
        version = self._scripts.version(request.path_params["script"], request.path_params["version"])
        return answer(_describe_whole(version))


def _describe_whole(version: Version) -> dict[str, Any]:
    resources = describe_resources(version)
    return {**describe_version(version), "resources": resources, "startup_time_ms": version.startup_ms}
