"""The account on loopback: a `LocalEdge` serves it from a thread, for tests, the demo and the command."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import uvicorn

from flagedge.errors import LocalError
from local_edge.cdn import state_name
from local_edge.edge import API_PREFIX, Edge
from local_edge.envelope import RefusalError
from local_edge.process import StartError, find_workerd
from local_edge.serve import BuiltWorker, serve_worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

START_TIMEOUT_S = 30.0
# Longer than any client keeps an idle connection, so that no request meets one that is being closed.
KEEP_ALIVE_S = 600


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
        self._switches = httpx.Client(base_url=f"{self.url}/local")

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

    def set_conditions(self, **conditions: Any) -> None:
        """How unkind the account is from now on: the names and their meaning are those of `Conditions`."""
        self._control("PATCH", "conditions", conditions)

    def set_faults(self, *faults: Mapping[str, Any]) -> None:
        """Strike coming requests; see faults.py for what a fault is."""
        self._control("POST", "faults", list(faults))

    def reset(self) -> None:
        """No more faults, and all conditions as at the beginning."""
        self._control("DELETE", "faults")
        self._control("DELETE", "conditions")

    def take_requests(self) -> list[dict[str, Any]]:
        """What was asked since the last time: {method, path, status}, oldest first."""
        requests: list[dict[str, Any]] = self._control("GET", "requests")
        self._control("DELETE", "requests")
        return requests

    def _control(self, method: str, what: str, body: Any = None) -> Any:
        response = self._switches.request(method, what, json=body)
        if response.is_error:
            raise LocalError(f"local-edge refused {method} /local/{what}: {response.json()['errors'][0]['message']}")
        return response.json()

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
        self._switches.close()
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
            await edge.deployer.restore()
            while not self._server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.005)
            self._ready.set()
            await serving
        finally:
            self._server.should_exit = True
            await edge.stop()
            await asyncio.gather(serving, return_exceptions=True)
