"""The account's parts, wired: the REST API, the CDN, the bindings' backends and the switches of tests, in one server.

A request meets, in this order: faults, the check of its token, the rate limit, its handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route

from local_edge.api_deployments import DeploymentsApi
from local_edge.api_kv import KvApi, Namespaces
from local_edge.api_messages import MessagesApi
from local_edge.api_queues import QueuesApi
from local_edge.api_secrets import SecretsApi
from local_edge.api_settings import SettingsApi
from local_edge.api_versions import VersionsApi
from local_edge.api_workers import SUBDOMAIN_SETTING, WorkersApi
from local_edge.backend import Backend
from local_edge.bindings import Account
from local_edge.cache import Cache
from local_edge.capnp import BINDING_HEADER
from local_edge.cdn import Cdn
from local_edge.conditions import Conditions
from local_edge.deploy import Deployer
from local_edge.envelope import RefusalError, answer, answer_page, read_object, refusal_response
from local_edge.faults import Faults
from local_edge.kv import Pairs
from local_edge.messages import Messages
from local_edge.queues import Queues
from local_edge.ratelimit import RateLimit
from local_edge.runtime import Runtime
from local_edge.scripts import Scripts, new_id
from local_edge.store import Store, now_text

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

API_PREFIX = "/client/v4"
ACCOUNT_SETTING = "account_id"
ACCOUNT_NAME = "local"


class Edge:
    """One account; lives in the server's event loop."""

    def __init__(self, *, directory: Path, workerd: Path, worker_port: int, api_token: str, grace_s: float) -> None:
        self.conditions = Conditions()
        self.store = Store(directory)
        self.messages = Messages(self.store)
        self.queues = Queues(self.store, self.messages)
        self.namespaces = Namespaces(self.store)
        self.pairs = Pairs(self.store, self.conditions)
        self.cache = Cache()
        self.scripts = Scripts(self.store)
        self.cdn = Cdn(directory / "cdn")
        self.runtime = Runtime(workerd=workerd, directory=directory, grace_s=grace_s, conditions=self.conditions)
        self._api_token = api_token
        self.account_id = self._prepare_account()
        self.account = Account(
            has_queue=lambda name: self.queues.find(name) is not None,
            has_namespace=self.namespaces.has,
            has_script=lambda name: self.scripts.find(name) is not None,
            is_consumer=self.queues.is_consumer,
        )
        self.deployer = Deployer(
            store=self.store,
            scripts=self.scripts,
            runtime=self.runtime,
            account=self.account,
            worker_port=worker_port,
        )
        self.faults = Faults(self._dispatch)
        self._backend = Backend(
            queues=self.queues,
            messages=self.messages,
            namespaces=self.namespaces,
            pairs=self.pairs,
            cache=self.cache,
        )
        self._routes = self._build_routes()
        self._api = RateLimit(self._routes, self.conditions)

    def _prepare_account(self) -> str:
        account_id = self.store.read_setting(ACCOUNT_SETTING)
        if account_id is None:
            account_id = new_id()
            self.store.write_setting(ACCOUNT_SETTING, account_id)
            self.store.write_setting(SUBDOMAIN_SETTING, ACCOUNT_NAME)
        return account_id

    def _build_routes(self) -> Starlette:
        account = f"{API_PREFIX}/accounts/{self.account_id}"
        kv_api = KvApi(namespaces=self.namespaces, pairs=self.pairs)
        queues_api = QueuesApi(queues=self.queues, scripts=self.scripts)
        messages_api = MessagesApi(queues=self.queues, messages=self.messages, conditions=self.conditions)
        routes = [
            *_mount(f"{account}/queues", [*queues_api.routes(), *messages_api.routes()]),
            *_mount(f"{account}/storage/kv/namespaces", kv_api.routes()),
            *_mount(f"{account}/workers", self._build_workers_routes()),
            Route(f"{API_PREFIX}/accounts", self._list_accounts, methods=["GET"]),
            Route(f"{API_PREFIX}/zones/{{zone}}/purge_cache", self._purge_cache, methods=["POST"]),
            Route("/cdn/{name}", self.cdn.get_state, methods=["GET"]),
            Route("/local/faults", self.faults.set_faults, methods=["POST"]),
            Route("/local/faults", self.faults.clear_faults, methods=["DELETE"]),
            Route("/local/requests", self.faults.list_requests, methods=["GET"]),
            Route("/local/requests", self.faults.clear_requests, methods=["DELETE"]),
            Route("/local/conditions", self.conditions.show, methods=["GET"]),
            Route("/local/conditions", self.conditions.patch, methods=["PATCH"]),
            Route("/local/conditions", self.conditions.reset, methods=["DELETE"]),
            Route("/local/workers", self._list_workers, methods=["GET"]),
        ]
        handlers = {RefusalError: _answer_refusal, HTTPException: _answer_unrouted}
        app = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]
        app.router.redirect_slashes = False
        return app

    def _build_workers_routes(self) -> list[Route]:
        scripts, deployer = self.scripts, self.deployer
        parts: dict[str, Any] = {"store": self.store, "runtime": self.runtime, "account": self.account}
        return [
            *WorkersApi(scripts=scripts, deployer=deployer, **parts).routes(),
            *VersionsApi(scripts=scripts, deployer=deployer).routes(),
            *DeploymentsApi(scripts=scripts, deployer=deployer).routes(),
            *SettingsApi(scripts=scripts, deployer=deployer, **parts).routes(),
            *SecretsApi(scripts=scripts, deployer=deployer).routes(),
        ]

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        app: ASGIApp = self._routes
        if BINDING_HEADER.encode() in headers:
            app = self._backend
        elif scope["path"].startswith(f"{API_PREFIX}/"):
            refusal = self._refuse_stranger(headers.get(b"authorization", b"").decode("latin-1"), scope["path"])
            app = refusal or self._api
        await app(scope, receive, send)

    def _refuse_stranger(self, authorization: str, path: str) -> Response | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return refusal_response(401, 10000, "Authentication error")
        if self._api_token and token.strip() != self._api_token:
            return refusal_response(403, 10000, "Authentication error")
        parts = path.removeprefix(f"{API_PREFIX}/").split("/")
        if parts[0] == "accounts" and len(parts) > 1 and parts[1] != self.account_id:
            return refusal_response(403, 10000, "Authentication error")
        return None

    async def _list_accounts(self, request: Request) -> Response:
        account = {"id": self.account_id, "name": ACCOUNT_NAME, "type": "standard", "created_on": now_text()}
        return answer_page(request, [account])

    async def _purge_cache(self, request: Request) -> Response:
        """Every zone is the one that has all hosts."""
        self.cache.purge(await read_object(request))
        return answer({"id": request.path_params["zone"]})

    async def _list_workers(self, _request: Request) -> Response:
        ports = {name: self.runtime.port(name) for name in self.scripts.names()}
        return answer({name: f"http://127.0.0.1:{port}" for name, port in ports.items() if port})

    async def stop(self) -> None:
        await self.runtime.stop()
        self.store.close()


def _mount(path: str, routes: list[Route]) -> list[Route | Mount]:
    """The routes below `path`, those of `/` at the path itself: the API has no slash at its end."""
    own = [Route(path, route.endpoint, methods=list(route.methods or ())) for route in routes if route.path == "/"]
    return [*own, Mount(path, routes=routes)]


def _answer_refusal(_request: Request, exc: RefusalError) -> Response:
    return refusal_response(exc.status, exc.code, exc.message)


def _answer_unrouted(request: Request, exc: HTTPException) -> Response:
    if exc.status_code == 404:
        message = f"Could not route to {request.url.path}, perhaps your object identifier is invalid?"
        return refusal_response(404, 7003, message)
    return refusal_response(exc.status_code, 10405, str(exc.detail))
