"""A script's deployments over the REST API: which versions get its traffic, now and before.

A rollback is a deployment that names an old version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from local_edge.api_versions import AUTHOR_EMAIL
from local_edge.envelope import RefusalError, answer, read_object
from local_edge.metadata import read_annotations
from local_edge.scripts import Deployment, Share

if TYPE_CHECKING:
    from starlette.requests import Request

    from local_edge.deploy import Deployer
    from local_edge.scripts import Scripts

VERSIONS_LIMIT = 2
# The list is not paged; production shows the newest ones only.
LISTED_COUNT = 10


class DeploymentsApi:
    """Handlers for /accounts/{account}/workers/scripts/{script}/deployments."""

    def __init__(self, *, scripts: Scripts, deployer: Deployer) -> None:
        self._scripts = scripts
        self._deployer = deployer

    def routes(self) -> list[Route]:
        deployments = "/scripts/{script}/deployments"
        return [
            Route(deployments, self.list_deployments, methods=["GET"]),
            Route(deployments, self.create_deployment, methods=["POST"]),
            Route(f"{deployments}/{{deployment}}", self.get_deployment, methods=["GET"]),
            Route(f"{deployments}/{{deployment}}", self.delete_deployment, methods=["DELETE"]),
        ]

    async def list_deployments(self, request: Request) -> Response:
        """The first one is active."""
        found = self._scripts.deployments(request.path_params["script"])[:LISTED_COUNT]
        return answer({"deployments": [_describe(deployment) for deployment in found]})

    async def create_deployment(self, request: Request) -> Response:
        name = request.path_params["script"]
        self._scripts.get(name)
        body = await read_object(request)
        shares = _read_shares(body)
        annotations = read_annotations(body.get("annotations"), triggered_by="deployment")
        force = request.query_params.get("force") == "true"
        with self._deployer.changing(name):
            deployment = await self._deployer.deploy(name, shares, annotations=annotations, force=force)
        return answer(_describe(deployment))

    def _find(self, request: Request) -> Deployment:
        for deployment in self._scripts.deployments(request.path_params["script"]):
            if deployment.deployment_id == request.path_params["deployment"]:
                return deployment
        raise RefusalError(404, 10336, f"Deployment {request.path_params['deployment']} was not found")

    async def get_deployment(self, request: Request) -> Response:
        return answer(_describe(self._find(request)))

    async def delete_deployment(self, request: Request) -> Response:
        deployment = self._find(request)
        if deployment == self._scripts.active(deployment.script):
            raise RefusalError(400, 10338, "The active deployment cannot be deleted")
        self._scripts.delete_deployment(deployment.deployment_id)
        return answer(None)


def _read_shares(body: dict[str, Any]) -> list[Share]:
    versions = body.get("versions")
    if body.get("strategy") != "percentage":
        raise RefusalError(400, 10210, "a deployment's strategy is percentage")
    if not isinstance(versions, list) or not 1 <= len(versions) <= VERSIONS_LIMIT:
        raise RefusalError(400, 10210, f"a deployment names 1 to {VERSIONS_LIMIT} versions")
    shares = [_read_share(item) for item in versions]
    if len({share.version_id for share in shares}) != len(shares):
        raise RefusalError(400, 10210, "a deployment names a version once")
    # Percentages have two decimals at most; binary fractions of them need not add up to 100 exactly.
    if round(sum(share.percentage for share in shares), 2) != 100:
        raise RefusalError(400, 10210, "the percentages of a deployment add up to 100")
    return shares


def _read_share(item: Any) -> Share:
    if not isinstance(item, dict) or not isinstance(item.get("version_id"), str):
        raise RefusalError(400, 10210, "a version of a deployment is {version_id, percentage}")
    percentage = item.get("percentage")
    if isinstance(percentage, bool) or not isinstance(percentage, (int, float)) or not 0 <= percentage <= 100:
        raise RefusalError(400, 10210, "a percentage is a number from 0 to 100")
    if round(percentage, 2) != percentage:
        raise RefusalError(400, 10210, "a percentage has at most two decimals")
    return Share(item["version_id"], percentage)


def _describe(deployment: Deployment) -> dict[str, Any]:
    return {
        "id": deployment.deployment_id,
        "created_on": deployment.created_on,
        "source": "api",
        "strategy": "percentage",
        "author_email": AUTHOR_EMAIL,
        "annotations": dict(deployment.annotations),
        "versions": [{"version_id": share.version_id, "percentage": share.percentage} for share in deployment.shares],
    }
