"""A headless Chromium, told what to do over the pipe of its DevTools protocol.

The browser comes out of an npm package for Linux on x86-64; on other systems it is the one on the path.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import select
import shutil
import signal
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from npm_clients import FOLDER, REPOSITORY, run_node

_NAMES = ("chromium", "google-chrome", "chrome")
_ARGUMENTS = ("--headless=shell", "--no-sandbox", "--no-first-run", "--remote-debugging-pipe")
_READS_FROM, _WRITES_TO = 3, 4
"""The descriptors of the pipe, by the protocol."""
_PATIENCE_S = 20
_ABOVE_ALL_OTHERS = 64


@cache
def _find_browser() -> tuple[str, dict[str, str]]:
    """The path of a browser, and what it needs in its environment."""
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):
        directory = _unpack_browser()
        return str(directory / "chromium"), {"LD_LIBRARY_PATH": str(directory / "lib")}
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser on the path: one of {', '.join(_NAMES)}")
    return found, {}


def _unpack_browser() -> Path:
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    version = lock["packages"]["node_modules/@sparticuz/chromium"]["version"]
    directory = REPOSITORY / f"build/chromium-{version}"
    if not directory.exists():
        directory.parent.mkdir(exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=directory.parent))
        run_node("unpack_chromium.mjs", str(unfinished))
        with tarfile.open(unfinished / "al2023.tar") as libraries:
            libraries.extractall(unfinished, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        unfinished.rename(directory)
    return directory


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def go(self, url: str) -> None:
        """Load a page, its modules included."""
        answer = self._browser.call("Page.navigate", self._session, url=url)
        assert "errorText" not in answer, answer
        loaded = "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        self.run(f"{loaded}.then(() => null)")

    def run(self, expression: str) -> Any:
        """The value of an expression, waited for; what is thrown there fails here."""
        answer = self._browser.call(
            "Runtime.evaluate", self._session, expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def call(self, function: str, *arguments: Any) -> Any:
        """What a function of the page gives for arguments of JSON."""
        return self.run(f"{function}({', '.join(json.dumps(each) for each in arguments)})")


class Browser:
    """A running browser."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._unread = b""
        self._count = 0

    def open_page(self, url: str) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.go(url)
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """A command of the protocol and its result; events are passed over."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": parameters}
        os.write(self._commands, json.dumps(command | ({"sessionId": session} if session else {})).encode() + b"\0")
        while (message := self._read()).get("id") != self._count:
            pass
        assert "error" not in message, message["error"]
        return message["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            assert select.select([self._answers], [], [], _PATIENCE_S)[0], "the browser does not answer"
            data = os.read(self._answers, 65_536)
            assert data, "the browser has ended"
            self._unread += data
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


@contextmanager
def run_browser() -> Iterator[Browser]:
    """Start a browser with a profile of its own; it ends with the block."""
    path, environ = _find_browser()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        commands, answers, process_id = _start(path, [f"--user-data-dir={profile}"], {"HOME": profile} | environ)
        try:
            yield Browser(commands, answers)
        finally:
            os.killpg(process_id, signal.SIGKILL)
            os.waitpid(process_id, 0)
            os.close(commands)
            os.close(answers)


def _start(path: str, arguments: list[str], environ: Mapping[str, str]) -> tuple[int, int, int]:
    """The ends of the pipe where commands go in and answers come out, and the process id."""
    its_commands, commands = os.pipe()
    answers, its_answers = os.pipe()
    # Out of the way of the numbers that they get in the browser.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _ABOVE_ALL_OTHERS) for end in (its_commands, its_answers)]
    actions = [
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, ends[0], _READS_FROM),
        (os.POSIX_SPAWN_DUP2, ends[1], _WRITES_TO),
    ]
    argv = [path, *_ARGUMENTS, *arguments, "about:blank"]
    process_id = os.posix_spawn(path, argv, environ, file_actions=actions, setpgroup=0)
    for end in (*ends, its_commands, its_answers):
        os.close(end)
    return commands, answers, process_id
