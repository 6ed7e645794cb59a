"""One deployment and one page for all tests of clients."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import Browser, Page, run_browser
from builders import SECRET
from caller import run_caller
from client_flags import PAYLOAD, Call, Site, run_site
from environments import client_python
from npm_clients import FOR_WORKERS, bundle, run_node
from pages import serve_pages

Ask = Callable[..., list[dict[str, Any]]]
FOLDER = Path(__file__).parent


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The Worker with `client_flags`, as sync-job deploys it."""
    with run_site(tmp_path_factory.mktemp("edge")) as site:
        yield site


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with run_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def page(browser: Browser) -> Iterator[Page]:
    """A page of another origin than the Worker's, with npm's web providers."""
    files = {"/index.html": b'<script type="module" src="/page.js"></script>', "/page.js": bundle("page.mjs")}
    with serve_pages(files) as pages:
        yield browser.open_page(f"{pages}/index.html")


@pytest.fixture(scope="package")
def bound_url() -> Iterator[str]:
    """A Worker that asks ours over a service binding, through Flagship's provider."""
    with run_caller(bundle("worker.mjs", *FOR_WORKERS), PAYLOAD) as url:
        yield url


@pytest.fixture
def ask(request: pytest.FixtureRequest, site: Site) -> Ask:
    """Evaluates calls through a client by its name: value, variant, reason and error of each."""

    def ask(client: str, *calls: Call, secret: str = SECRET) -> list[dict[str, Any]]:
        where, _, provider = client.partition(" ")
        text = json.dumps(calls)
        if where == "PyPI":
            command = [client_python("openfeature"), FOLDER / "openfeature_script.py", provider, site.url, secret]
            environ = {"PATH": os.environ["PATH"]}
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, env=environ)
            return list(json.loads(done.stdout.splitlines()[-1]))
        if where == "node":
            return list(json.loads(run_node("server.mjs", provider, site.url, secret, said=text).splitlines()[-1]))
        if where == "binding":
            answer = httpx.post(request.getfixturevalue("bound_url"), content=text, timeout=30)
            return list(answer.raise_for_status().json())
        return list(request.getfixturevalue("page").call("evaluate", provider, site.url, secret, calls))

    return ask
