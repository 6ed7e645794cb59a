"""The examples of docs/clients.md, run as they stand there: each finds out how many columns the visitor sees."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from browser import Browser
from builders import SECRET
from caller import run_caller
from client_flags import COLUMNS, PAYLOAD, Site
from environments import client_python
from npm_clients import FOR_WORKERS, REPOSITORY, bundle_text, run_module
from pages import serve_pages

from sync_job.decode import decode_state
from sync_job.types import write_types

PAGE = (REPOSITORY / "docs/clients.md").read_text()
BUILT = REPOSITORY / "worker/build/browser"
TSC = REPOSITORY / "worker/node_modules/.bin/tsc"


class Example(NamedTuple):
    language: str
    place: str
    """Where it runs: the name of a Python environment, node, page or worker."""
    code: str


EXAMPLES = [Example(*found) for found in re.findall(r"^```(\w+) (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]
NAMES = [f"{number} {example.place}" for number, example in enumerate(EXAMPLES)]


def run_python(example: Example, site: Site) -> int:
    code = f"WORKER_URL, SECRET = {site.url!r}, {SECRET!r}\n{example.code}\nprint(columns)"
    command = [client_python(example.place), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    return int(done.stdout.splitlines()[-1])


def run_in_node(example: Example, site: Site) -> int:
    constants = f"const WORKER_URL = {json.dumps(site.url)}, SECRET = {json.dumps(SECRET)};"
    return int(run_module(f"{constants}\n{example.code}\nconsole.log(columns);").splitlines()[-1])


def run_in_worker(example: Example) -> int:
    with run_caller(bundle_text(example.code, "--loader=ts", *FOR_WORKERS), PAYLOAD) as url:
        return int(httpx.get(url).raise_for_status().json()["columns"])


def run_in_page(example: Example, site: Site, browser: Browser) -> int:
    constants = [f"--define:WORKER_URL={json.dumps(site.url)}", f"--define:SECRET={json.dumps(SECRET)}"]
    code = bundle_text(f"{example.code}\nexport {{ columns }};", *constants)
    files = {f"/{name}": (BUILT / name).read_bytes() for name in ("flags.js", "openfeature.js")}
    files |= {"/index.html": b"", "/example.js": code}
    with serve_pages(files) as pages:
        opened = browser.open_page(f"{pages}/index.html")
        return int(opened.run("import('/example.js').then(({ columns }) => columns)"))


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_example(example: Example, site: Site, browser: Browser) -> None:
    """What the example calls `columns` is the flag's value, not the default."""
    runs: dict[str, Callable[[], int]] = {
        "node": lambda: run_in_node(example, site),
        "page": lambda: run_in_page(example, site, browser),
        "worker": lambda: run_in_worker(example),
    }
    assert runs.get(example.place, lambda: run_python(example, site))() == COLUMNS


def test_every_client_has_an_example() -> None:
    """Three Python clients, two in node, four in a page, two in a Worker."""
    places = [example.place for example in EXAMPLES]
    counts = {place: places.count(place) for place in sorted(set(places))}
    assert counts == {"confidence-sdk": 1, "node": 2, "openfeature": 2, "page": 4, "worker": 2}


def test_typed_example_compiles(tmp_path: Path) -> None:
    """With the types that sync-job writes for the state; with a misspelt key it does not."""
    [example] = [example for example in EXAMPLES if example.language == "ts"]
    (tmp_path / "flags.d.ts").write_text(write_types(decode_state(PAYLOAD), etag='"1"'))
    command = [TSC, "--noEmit", "--strict", "--lib", "es2022,dom", "--target", "es2022", "--module", "preserve"]
    for code, is_right in ((example.code, True), (example.code.replace("checkout.columns", "checkout.colums"), False)):
        (tmp_path / "worker.ts").write_text(code)
        done = subprocess.run([*command, "worker.ts"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is is_right, done.stdout
