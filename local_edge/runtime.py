"""Runs what was uploaded: for each script a front and behind it the processes of the versions that are deployed.

The front is a workerd too (front.js), started with a script's first version and kept: a public port that outlives
every redeploy. Why a Worker and not a proxy in Python: it streams, speaks all of HTTP, hands `request.cf` on, and can
choose a version for each request; measured here on one core it passes 5,000 requests/s and adds 0.3 ms, and
swapping the version behind it is one assignment in its isolate. A proxy of TCP streams would pin a connection to the
version that it met first, so a redeploy would have to cut idle connections, and a client can lose that race.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import structlog

from local_edge.capnp import (
    Entry,
    Wiring,
    control_path,
    inside_address,
    secret_variable,
    slot_address,
    write_front_config,
    write_version_config,
)
from local_edge.probe import STARTUP_CPU_LIMIT_S, Exports, idle_entry, idle_version, probe_entry, read_exports
from local_edge.process import StartError, Warden, Workerd, make_run_directory, read_cpu_s, start_workerd
from local_edge.scripts import Version
from local_edge.serving import Portion, Running, Served, View

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from local_edge.conditions import Conditions

WORKER_EXITED = "worker.exited"
SHORTEST_LIFE_S = 1.0


class Runtime:
    """The workerd processes of an account; all calls from the server's event loop."""

    def __init__(self, *, workerd: Path, directory: Path, grace_s: float, conditions: Conditions) -> None:
        self._workerd = workerd
        self._logs = directory / "logs"
        self._configs = directory / "run"
        self._grace_s = grace_s
        self._conditions = conditions
        self._sockets = make_run_directory()
        self._warden = Warden(self._sockets)
        self._served: dict[str, Served] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._alive: set[Workerd] = set()
        self._log = structlog.get_logger()
        self.backend_port = 0
        for path in (self._logs, self._configs):
            path.mkdir(parents=True, exist_ok=True)

    def port(self, script: str) -> int | None:
        served = self._served.get(script)
        return served.port if served else None

    def pids(self, script: str) -> dict[str, int]:
        """The processes of a script's versions, by version id."""
        served = self._served.get(script)
        return {} if served is None else {each: running.workerd.pid for each, running in served.running.items()}

    async def inspect(self, version: Version) -> Exports:
        """Run a version's global scope once, in a process that ends with this call. Raises StartError."""
        loading_s = 0.0
        if idle := idle_version(version):
            async with self._probe(idle, idle_entry(), cpu_limit_s=math.inf) as (workerd, _):
                loading_s = read_cpu_s(workerd.pid)
        loop = asyncio.get_running_loop()
        began = loop.time()
        entry = probe_entry(version.modules[0].name)
        async with self._probe(version, entry, cpu_limit_s=loading_s + STARTUP_CPU_LIMIT_S) as (_, client):
            startup_s = loop.time() - began
            answer = await client.get("http://probe/")
        return read_exports(answer.raise_for_status().json(), startup_s)

    @asynccontextmanager
    async def _probe(
        self, version: Version, entry: Entry, *, cpu_limit_s: float
    ) -> AsyncIterator[tuple[Workerd, httpx.AsyncClient]]:
        """A process that lives as long as the block, and a client for it."""
        socket = self._sockets / f"{version.version_id}.probe"
        workerd = await self._start_version(version, f"unix:{socket}", entry=entry, cpu_limit_s=cpu_limit_s)
        try:
            async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket))) as client:
                yield workerd, client
        finally:
            await workerd.end()
            self._alive.discard(workerd)
            socket.unlink(missing_ok=True)

    async def prepare(self, script: str, versions: Sequence[Version], *, port: int = 0) -> list[Running]:
        """A process for each version, beside what runs: they get no traffic before `switch`, which has to follow.

        Raises StartError when one does not start; then none of the new ones is left.
        """
        served = self._served.get(script) or await self._start_front(script, port)
        prepared = []
        try:
            for version in versions:
                running = served.running.get(version.version_id)
                if running is None:
                    running = served.running[version.version_id] = await self._start_behind(served, version)
                    self._spawn(self._watch(served, running))
                served.held.add(version.version_id)
                prepared.append(running)
        except BaseException:
            served.held.clear()
            self._retire_unused(served, grace_s=0)
            if not served.newest.portions:
                await self.remove(script)
            raise
        return prepared

    async def _start_behind(self, served: Served, version: Version) -> Running:
        slot = served.take_slot()
        try:
            workerd = await self.start_at(version, slot_address(self._sockets, version.script, slot))
        except BaseException:
            served.slots.discard(slot)
            raise
        return Running(version, slot, workerd, asyncio.get_running_loop().time())

    async def start_at(self, version: Version, address: str) -> Workerd:
        """Start a version on any address, without a front."""
        return await self._start_version(version, address, entry=None, cpu_limit_s=math.inf)

    async def _start_version(
        self, version: Version, address: str, *, entry: Entry | None, cpu_limit_s: float
    ) -> Workerd:
        bound = {binding["service"] for binding in version.bindings if binding["type"] == "service"}
        wiring = Wiring(
            listen=address,
            backend=f"127.0.0.1:{self.backend_port}",
            blobs="../blobs",
            services={script: inside_address(self._sockets, script) for script in bound},
        )
        config = self._configs / f"{version.version_id}{'.probe' if entry else ''}.capnp"
        config.write_text(write_version_config(version, wiring, entry=entry))
        if address.startswith("unix:"):
            Path(address.removeprefix("unix:")).unlink(missing_ok=True)  # noqa: ASYNC240 - a local file
        secrets = {
            secret_variable(binding["name"]): binding["text"]
            for binding in version.bindings
            if binding["type"] == "secret_text"
        }
        log = self._logs / f"{version.script}.log"
        try:
            return await self._start(config, sockets=1, environ=secrets, log=log, cpu_limit_s=cpu_limit_s)
        finally:
            config.unlink()

    async def _start(
        self, config: Path, *, sockets: int, environ: Mapping[str, str], log: Path, cpu_limit_s: float = math.inf
    ) -> Workerd:
        workerd = await start_workerd(
            self._workerd, config, warden=self._warden, sockets=sockets, environ=environ, log=log,
            cpu_limit_s=cpu_limit_s,
        )  # fmt: skip
        self._alive.add(workerd)
        return workerd

    async def _start_front(self, script: str, port: int) -> Served:
        config = self._configs / f"front-{script}.capnp"
        config.write_text(write_front_config(self._sockets, script, port))
        control = control_path(self._sockets, script)
        control.unlink(missing_ok=True)
        log = self._logs / f"front-{script}.log"
        front = await self._start(config, sockets=3, environ={}, log=log)
        client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(control)), base_url="http://front")
        self._served[script] = Served(front, client)
        return self._served[script]

    async def switch(self, script: str, portions: Sequence[Portion]) -> None:
        """Give the traffic to prepared versions; those before end after their grace time."""
        served = self._served[script]
        view = View(served.newest.enabled, portions)
        served.held.clear()
        await self._spread(served, view)

    async def set_enabled(self, script: str, *, enabled: bool) -> None:
        served = self._served.get(script)
        if served is not None:
            await self._spread(served, View(enabled, served.newest.portions))

    async def _spread(self, served: Served, view: View) -> None:
        served.coming.append(view)
        delay_s = self._conditions.propagation_ms / 1000
        if not delay_s:
            await self._arrive(served, view)
            return
        if self._conditions.propagation_mixed:
            await self._tell_front(served)
        self._spawn(self._arrive(served, view, delay_s))

    async def _arrive(self, served: Served, view: View, delay_s: float = 0.0) -> None:
        await asyncio.sleep(delay_s)
        if served.arrive(view):
            await self._tell_front(served)
            self._retire_unused(served, grace_s=self._grace_s)

    async def _tell_front(self, served: Served) -> None:
        views = [served.shown, *(served.coming if self._conditions.propagation_mixed else ())]
        answer = await served.control.post("/", json=[view.describe() for view in views])
        answer.raise_for_status()

    def _retire_unused(self, served: Served, *, grace_s: float) -> None:
        for running in served.take_unused():
            self._spawn(self._retire(served, running.workerd, running.slot, grace_s))

    async def _retire(self, served: Served, workerd: Workerd, slot: int, grace_s: float) -> None:
        await workerd.end(grace_s=grace_s)
        self._alive.discard(workerd)
        served.slots.discard(slot)

    async def _watch(self, served: Served, running: Running) -> None:
        """Start a version again when its process ends by itself, unless it can hardly stand."""
        while True:
            workerd, slot = running.workerd, running.slot
            await workerd.wait()
            if workerd.ending:
                return
            lived_s = asyncio.get_running_loop().time() - running.started_at
            self._log.warning(WORKER_EXITED, script=running.version.script, lived_s=round(lived_s, 1))
            self._alive.discard(workerd)
            again = await self._start_again(served, running) if lived_s >= SHORTEST_LIFE_S else None
            if not served.is_running(running):
                if again is not None:
                    await self._retire(served, again.workerd, again.slot, 0)
                return
            served.slots.discard(slot)
            if again is None:
                del served.running[running.version.version_id]
                return
            running.workerd, running.slot, running.started_at = again.workerd, again.slot, again.started_at
            await self._tell_front(served)

    async def _start_again(self, served: Served, running: Running) -> Running | None:
        try:
            return await self._start_behind(served, running.version)
        except StartError:
            return None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def remove(self, script: str) -> None:
        """Stop serving a script; when this returns its port is free."""
        served = self._served.pop(script, None)
        if served is None:
            return
        served.shown, served.coming = View(), []
        await served.control.aclose()
        self._retire_unused(served, grace_s=0)
        await served.front.end(kill_after_s=1)
        self._alive.discard(served.front)

    async def stop(self) -> None:
        """End every process: requests in flight get a second, pending waitUntil work nothing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for served in self._served.values():
            await served.control.aclose()
        self._served.clear()
        await asyncio.gather(*(workerd.end(kill_after_s=1) for workerd in self._alive))
        self._warden.close()
