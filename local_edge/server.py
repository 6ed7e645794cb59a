"""The account on loopback: one HTTP server for the REST API, the CDN, the bindings' backends and the test switches."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route

from flagedge.errors import LocalError
from local_edge.api_kv import KvApi, Namespaces
from local_edge.api_queues import Queues, QueuesApi
from local_edge.api_workers import SUBDOMAIN_SETTING, WorkersApi
from local_edge.backend import Backend
from local_edge.capnp import BINDING_HEADER
from local_edge.cdn import Cdn, state_name
from local_edge.envelope import RefusalError, answer, answer_page, read_object, refusal_response
from local_edge.faults import Faults
from local_edge.kv import Pairs
from local_edge.process import StartError, find_workerd
from local_edge.queues import Messages
from local_edge.runtime import Runtime
from local_edge.scripts import Scripts, new_id
from local_edge.serve import BuiltWorker, serve_worker
from local_edge.store import Store, now_text
from local_edge.upload import Account

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

API_PREFIX = "/client/v4"
ACCOUNT_SETTING = "account_id"
ACCOUNT_NAME = "local"
START_TIMEOUT_S = 30.0
# Longer than any client keeps an idle connection, so that no request meets one that is being closed.
KEEP_ALIVE_S = 600


class Edge:
    """The parts of the account, wired; lives in the server's event loop."""

    def __init__(self, *, directory: Path, workerd: Path, worker_port: int, api_token: str, grace_s: float) -> None:
        self.store = Store(directory)
        self.messages = Messages(self.store)
        self.queues = Queues(self.store, self.messages)
        self.namespaces = Namespaces(self.store)
        self.pairs = Pairs(self.store)
        self.scripts = Scripts(self.store)
        self.cdn = Cdn(directory / "cdn")
        self.runtime = Runtime(workerd=workerd, directory=directory, grace_s=grace_s)
        self._api_token = api_token
        self.account_id = self._prepare_account()
        self.account = Account(
            has_queue=lambda name: self.queues.find(name) is not None,
            has_namespace=self.namespaces.has,
            has_script=lambda name: self.scripts.find(name) is not None,
        )
        self.workers_api = WorkersApi(
            store=self.store,
            scripts=self.scripts,
            runtime=self.runtime,
            account=self.account,
            worker_port=worker_port,
        )
        self.faults = Faults(self._dispatch)
        self._backend = Backend(
            queues=self.queues, messages=self.messages, namespaces=self.namespaces, pairs=self.pairs
        )
        self._api = self._build_api()

    def _prepare_account(self) -> str:
        account_id = self.store.read_setting(ACCOUNT_SETTING)
        if account_id is None:
            account_id = new_id()
            self.store.write_setting(ACCOUNT_SETTING, account_id)
            self.store.write_setting(SUBDOMAIN_SETTING, ACCOUNT_NAME)
        return account_id

    def _build_api(self) -> Starlette:
        queues_api = QueuesApi(queues=self.queues, messages=self.messages, scripts=self.scripts)
        kv_api = KvApi(namespaces=self.namespaces, pairs=self.pairs)
        account = f"{API_PREFIX}/accounts/{self.account_id}"
        queue_routes, kv_routes = queues_api.routes(), kv_api.routes()
        routes = [
            Route(f"{account}/queues", queue_routes[0].endpoint, methods=["GET"]),
            Route(f"{account}/queues", queue_routes[1].endpoint, methods=["POST"]),
            Mount(f"{account}/queues", routes=queue_routes),
            Route(f"{account}/storage/kv/namespaces", kv_routes[0].endpoint, methods=["GET"]),
            Route(f"{account}/storage/kv/namespaces", kv_routes[1].endpoint, methods=["POST"]),
            Mount(f"{account}/storage/kv/namespaces", routes=kv_routes),
            Mount(f"{account}/workers", routes=self.workers_api.routes()),
            Route(f"{API_PREFIX}/accounts", self._list_accounts, methods=["GET"]),
            Route("/cdn/{name}", self.cdn.get_state, methods=["GET"]),
            Route("/local/faults", self.faults.set_faults, methods=["POST"]),
            Route("/local/faults", self.faults.clear_faults, methods=["DELETE"]),
            Route("/local/requests", self.faults.list_requests, methods=["GET"]),
            Route("/local/requests", self.faults.clear_requests, methods=["DELETE"]),
            Route("/local/kv", self._set_kv, methods=["POST"]),
            Route("/local/workers", self._list_workers, methods=["GET"]),
        ]
        handlers = {RefusalError: _answer_refusal, HTTPException: _answer_unrouted}
        app = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]
        app.router.redirect_slashes = False
        return app

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        app: ASGIApp = self._api
        if BINDING_HEADER.encode() in headers:
            app = self._backend
        elif scope["path"].startswith(f"{API_PREFIX}/"):
            refusal = self._refuse_stranger(headers.get(b"authorization", b"").decode("latin-1"), scope["path"])
            if refusal is not None:
                app = refusal
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

    async def _list_workers(self, _request: Request) -> Response:
        ports = {name: self.runtime.port(name) for name in self.scripts.names()}
        return answer({name: f"http://127.0.0.1:{port}" for name, port in ports.items() if port})

    async def _set_kv(self, request: Request) -> Response:
        """How stale a binding's reads are: {"stale_s": seconds}."""
        self.pairs.stale_s = float((await read_object(request))["stale_s"])
        return answer(None)

    async def stop(self) -> None:
        await self.runtime.stop()
        self.store.close()


def _answer_refusal(_request: Request, exc: RefusalError) -> Response:
    return refusal_response(exc.status, exc.code, exc.message)


def _answer_unrouted(request: Request, exc: HTTPException) -> Response:
    if exc.status_code == 404:
        message = f"Could not route to {request.url.path}, perhaps your object identifier is invalid?"
        return refusal_response(404, 7003, message)
    return refusal_response(exc.status_code, 10405, str(exc.detail))


def bind(port: int, hint: str) -> socket.socket:
    """A listening socket on loopback, or a LocalError that names the port.

    Its protocol is named because asyncio turns Nagle's algorithm off only for connections that say they are TCP, and
    an answer in two writes would wait 40 ms for the client's delayed ACK.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
    except OSError as exc:
        listener.close()
        message = f"port {port} on 127.0.0.1 cannot be used: {os.strerror(exc.errno or 0)}"
        raise LocalError(message, hint=hint) from exc
    return listener


class LocalEdge:
    """The account, served from a thread while the `with` block lasts; what is in `dir` is kept, and served again.

    `worker_port` is the port of the first script (0: any), `api_token` the only token that is let in ("": any),
    `grace_s` how long a replaced version keeps running.
    """

    def __init__(
        self,
        *,
        dir: Path | None = None,  # noqa: A002 - the option is called so everywhere
        workerd: str | os.PathLike[str] | None = None,
        port: int = 0,
        worker_port: int = 0,
        api_token: str = "",
        grace_s: float = 5.0,
    ) -> None:
        self._own_directory = dir is None
        self._binary = find_workerd(workerd, os.environ, Path.cwd())
        if worker_port:
            bind(worker_port, "Choose another with --worker-port").close()
        self._socket = bind(port, "Choose another with --port")
        self.directory = Path(tempfile.mkdtemp(prefix="local-edge-")) if dir is None else dir
        self._options = {"worker_port": worker_port, "api_token": api_token, "grace_s": grace_s}
        self._thread = threading.Thread(target=self._run, name="local-edge")
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._server: uvicorn.Server | None = None
        self._edge: Edge | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def api_url(self) -> str:
        return f"{self.url}{API_PREFIX}"

    @property
    def cdn_url(self) -> str:
        return f"{self.url}/cdn"

    @property
    def edge(self) -> Edge:
        assert self._edge is not None
        return self._edge

    def worker_url(self, script: str) -> str:
        """Where a script is served; it stays the same over redeploys."""
        port = self.edge.runtime.port(script)
        if port is None:
            raise LocalError(f"no Worker {script!r} is deployed here", hint="Upload it first")
        return f"http://127.0.0.1:{port}"

    def publish_state(self, client_secret: str, state: bytes, *, encrypted: bool = False) -> None:
        self.edge.cdn.publish(state_name(client_secret, encrypted=encrypted), state)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when everything answers, recorded scripts included."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self.stop()
            raise self._failure

    def serve(self, worker: BuiltWorker, port: int) -> int:
        """Run a built Worker without a front, and return its port. Raises LocalError when it does not start."""
        if port:
            bind(port, "Choose another with --port").close()
        assert self._loop is not None
        starting = asyncio.run_coroutine_threadsafe(serve_worker(self.edge, worker, port), self._loop)
        try:
            return starting.result(START_TIMEOUT_S)
        except (StartError, RefusalError) as exc:
            raise LocalError(f"the Worker does not start: {exc}") from exc

    def stop(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join()
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except StartError as exc:
            self._failure = LocalError(f"a recorded Worker does not start: {exc}", hint="Name another --dir")
        except BaseException as exc:  # noqa: BLE001 - handed to the thread that called start()
            self._failure = exc
        finally:
            self._socket.close()
            self._ready.set()

    async def _serve(self) -> None:
        edge = Edge(directory=self.directory, workerd=self._binary, **self._options)  # type: ignore[arg-type]
        self._edge = edge
        self._loop = asyncio.get_running_loop()
        edge.runtime.backend_port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            edge.faults, log_config=None, access_log=False, lifespan="off", ws="none", http="h11",
            timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        try:
            await edge.workers_api.restore()
            while not self._server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.005)
            self._ready.set()
            await serving
        finally:
            self._server.should_exit = True
            await edge.stop()
            await asyncio.gather(serving, return_exceptions=True)
