"""One workerd process: started, known to listen, watched, ended; and the warden that ends all when we are gone.

workerd tells on --control-fd which sockets it listens on, and does so only when the Worker's global scope has run;
when that fails it prints why and exits. It has no way to notice that its parent died, so a warden (a shell that reads
the pids from a pipe) kills what is left when the pipe closes, which it does however this process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from flagedge.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Mapping

START_TIMEOUT_S = 15.0
CPU_EXCEEDED = "Script startup exceeded CPU time limit."
CPU_POLL_S = 0.05
KILL_AFTER_S = 10.0
WARDEN = """
trap '' INT TERM HUP
while read -r sign pid; do
  case $sign in
    +) pids="$pids $pid" ;;
    -) left=; for p in $pids; do [ "$p" = "$pid" ] || left="$left $p"; done; pids=$left ;;
  esac
done
for p in $pids; do kill -9 "$p" 2>/dev/null; done
rm -rf "$1"
"""


class StartError(Exception):
    """workerd did not start; the message is what it said."""


class Warden:
    """Kills the registered processes and removes `run` when this process ends, however it ends."""

    def __init__(self, run: Path) -> None:
        command = ["/bin/sh", "-c", WARDEN, "local-edge-warden", str(run)]
        self._shell = subprocess.Popen(  # noqa: S603 - our own script
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def _tell(self, line: str) -> None:
        assert self._shell.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._shell.stdin.write(line.encode())
            self._shell.stdin.flush()

    def add(self, pid: int) -> None:
        self._tell(f"+ {pid}\n")

    def remove(self, pid: int) -> None:
        self._tell(f"- {pid}\n")

    def close(self) -> None:
        assert self._shell.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._shell.stdin.close()
        self._shell.wait()


class Workerd:
    """A running workerd; `ports` gives the port of each TCP socket by its name in the configuration."""

    def __init__(self, process: asyncio.subprocess.Process, warden: Warden, ports: dict[str, int]) -> None:
        self._process = process
        self._warden = warden
        self.ports = ports
        self.ending = False

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> None:
        await self._process.wait()
        self._warden.remove(self.pid)

    async def end(self, *, grace_s: float = 0.0, kill_after_s: float = KILL_AFTER_S) -> None:
        """Leave it `grace_s` for its pending waitUntil work, ask it to finish its requests, then kill it."""
        self.ending = True
        await asyncio.sleep(grace_s)
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), kill_after_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._warden.remove(self.pid)


async def start_workerd(
    binary: Path,
    config: Path,
    *,
    warden: Warden,
    sockets: int,
    environ: Mapping[str, str],
    log: Path,
    cpu_limit_s: float = math.inf,
) -> Workerd:
    """Start workerd and return when it listens on all its `sockets`.

    Raises StartError with what it said when it does not come up, or with CPU_EXCEEDED when it used more than
    `cpu_limit_s` until then; then no process is left.
    """
    read_end, write_end = os.pipe()
    try:
        with log.open("ab") as output:
            said_before = output.tell()
            process = await asyncio.create_subprocess_exec(
                binary, "serve", config, f"--control-fd={write_end}", pass_fds=(write_end,), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, env=dict(environ), start_new_session=True,
            )  # fmt: skip
    except OSError as exc:
        os.close(read_end)
        raise LocalError(f"cannot start workerd ({binary}): {exc}") from exc
    finally:
        os.close(write_end)
    warden.add(process.pid)
    ports: dict[str, int] = {}
    reading = asyncio.ensure_future(_read_ports(read_end, sockets, ports))
    in_time = await _finishes(reading, process.pid, cpu_limit_s)
    if len(ports) < sockets or not in_time:
        reading.cancel()
        if not in_time:
            process.kill()
        await process.wait()
        warden.remove(process.pid)
        raise StartError((_explain(log, said_before) if in_time else "") or CPU_EXCEEDED)
    return Workerd(process, warden, ports)


async def _finishes(starting: asyncio.Future[None], pid: int, cpu_limit_s: float) -> bool:
    """Wait for `starting`; False when it takes too long, or more than `cpu_limit_s` of the process's CPU time."""
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while not starting.done():
        await asyncio.wait([starting], timeout=CPU_POLL_S)
        if not starting.done() and asyncio.get_running_loop().time() > deadline:
            return False
        if read_cpu_s(pid) > cpu_limit_s:
            return False
    return True


def read_cpu_s(pid: int) -> float:
    """CPU time of the process's main thread, on which global scopes run; 0 where no /proc tells it."""
    try:
        stat = Path(f"/proc/{pid}/task/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # The name in the second field may hold anything, so fields are counted from its closing parenthesis.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _read_ports(read_end: int, sockets: int, ports: dict[str, int]) -> None:
    """Fill `ports` from workerd's listen events until there are `sockets` of them or the process is gone."""
    reader = asyncio.StreamReader()
    pipe = os.fdopen(read_end, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        while len(ports) < sockets and (line := await reader.readline()):
            event = json.loads(line)
            if event["event"] == "listen":
                ports[event["socket"]] = event["port"]
    finally:
        transport.close()


def _explain(log: Path, said_before: int) -> str:
    """workerd's own words, without the paths and noise of its log lines."""
    said = log.read_bytes()[said_before:].decode("utf-8", "replace")
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("stack:")]
    return re.sub(r"^service \S+: ", "", "\n".join(lines[-12:]))


def find_workerd(named: str | os.PathLike[str] | None, environ: Mapping[str, str], directory: Path) -> Path:
    """The one named, else $WORKERD, else that of the nearest worker/node_modules from `directory` up, else PATH's."""
    hint = "Install it with `npm ci` in worker/, or name it with --workerd or $WORKERD"
    explicit = named or environ.get("WORKERD")
    if explicit:
        path = Path(explicit)
        if not path.is_file() or not os.access(path, os.X_OK):
            raise LocalError(f"workerd is not a program at {path}", hint=hint)
        return _behind_shim(path.resolve())
    places = [above / "worker/node_modules/.bin/workerd" for above in (directory, *directory.parents)]
    places += [Path(entry) / "workerd" for entry in environ.get("PATH", "").split(os.pathsep) if entry]
    for place in places:
        if place.is_file() and os.access(place, os.X_OK):
            return _behind_shim(place.resolve())
    raise LocalError("workerd was not found", hint=hint)


def _behind_shim(path: Path) -> Path:
    """The package's bin/workerd can be a script that starts the real one, which signals would not reach."""
    with path.open("rb") as file:
        if file.read(2) != b"#!":
            return path
    for binary in sorted(path.parents[2].glob("@cloudflare/workerd-*/bin/workerd")):
        return binary
    return path


def is_free(port: int) -> bool:
    """Whether a process could listen on the port of loopback now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def make_run_directory() -> Path:
    """A short path, for sockets: they may not be deeper than about 100 bytes."""
    return Path(tempfile.mkdtemp(prefix="local-edge-"))
