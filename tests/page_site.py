"""Pages as visitors get them: an origin on loopback, and the Worker in front of it as sync-job deploys it."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from builders import SECRET, assignment, eq, flag, payload, rule, schema, segment, state, variant
from client_flags import WORKER, Exposure, deploy
from operators import operator_environ

from local_edge.server import LocalEdge

COOKIE = "flag_visitor"
HTML = "<!doctype html><html><head><title>shop</title></head><body><h1>shop</h1></body></html>"
CF_HEADER = "x-local-edge-cf"
PAYLOAD = payload(
    state(
        flag(
            "layout",
            rule(assignments=[assignment("wide", (0, 50)), assignment("narrow", (50, 100))]),
            variants=[variant("wide", {"columns": 3}), variant("narrow", {"columns": 1})],
            schema=schema({"columns": int}),
        ),
        flag(
            "swedish",
            rule(segment="se", assignments=[assignment("on")]),
            variants=[variant("on", {"text": "</script><!--\u2028<script>"})],
            schema=schema({"text": str}),
        ),
        flag(
            "themed",
            rule(segment="dark", assignments=[assignment("on")]),
            variants=[variant("on", {"dark": True})],
            schema=schema({"dark": bool}),
        ),
        segments=[segment("se", eq("country", "SE")), segment("dark", eq("theme", "dark mode"))],
    )
)
SETTINGS = {
    "FORCE_APPLY": "true",
    "LOG_LINGER_MS": "0",
    "PAGE_FLAGS": json.dumps({"/*": ["layout", "swedish"], "/themed": ["themed"], "/plain/*": []}),
    "PAGE_CONTEXT": json.dumps({"country": "cf:country", "theme": "cookie:theme", "agent": "header:user-agent"}),
}
_BOOTSTRAP = re.compile(r"<script(?: nonce=\"([^\"]*)\")?>window\.__FLAG_BOOTSTRAP__=(.*?)</script>")


@dataclass(frozen=True)
class Answered:
    """What the origin answers at a path; a number among the chunks is a pause in seconds, None cuts the answer off."""

    chunks: Sequence[bytes | float | None] = (HTML.encode(),)
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    thinks_until: threading.Event | None = None
    """It says nothing before."""


@dataclass(frozen=True)
class Asked:
    """A request as the origin got it; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Origin:
    """A web server that answers what it is told to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Answered] = {}
        self.asked: list[Asked] = []

    def answer(self, path: str, html: str = HTML, *, status: int = 200, **headers: str) -> str:
        """Say what is at a path, compressed if `content_encoding` is gzip; header names with underscores. The path."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = gzip.compress(html.encode()) if named.get("content-encoding") == "gzip" else html.encode()
        self.answers[path] = Answered(
            [body] if body else [], {"content-type": "text/html; charset=utf-8"} | named, status
        )
        return path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    origin: Origin

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.origin.asked.append(Asked(self.command, self.path, headers, body))
        answered = self.origin.answers.get(self.path.split("?")[0], Answered([b"nothing"], {}, 404))
        if answered.thinks_until is not None:
            answered.thinks_until.wait(timeout=30)
        self.send_response(answered.status)
        for name, value in answered.headers.items():
            self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if self.command != "HEAD":
            self._send(answered.chunks)

    def _send(self, chunks: Sequence[bytes | float | None]) -> None:
        for chunk in chunks:
            if chunk is None:
                self.close_connection = True
                return
            if isinstance(chunk, bytes):
                assert chunk, "an empty chunk is the end"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            else:
                time.sleep(chunk)
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = _answer  # noqa: N815  (their names in the class above)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the class above)
        pass


@contextmanager
def run_origin() -> Iterator[Origin]:
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.origin = Origin(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield handler.origin
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Shown:
    """A page as a visitor gets it."""

    response: httpx.Response

    @property
    def bootstrap(self) -> dict[str, Any]:
        """What the page is told; there is exactly one bootstrap."""
        ((_, text),) = _BOOTSTRAP.findall(self.response.text)
        bootstrap: dict[str, Any] = json.loads(text)
        return bootstrap

    @property
    def nonce(self) -> str:
        ((nonce, _),) = _BOOTSTRAP.findall(self.response.text)
        return str(nonce)

    @property
    def variants(self) -> dict[str, str | None]:
        """Short names, as the bootstrap has them."""
        return {
            resolved["flag"].removeprefix("flags/"): (resolved.get("variant") or "").rpartition("/")[2] or None
            for resolved in self.bootstrap["resolvedFlags"]
        }

    @property
    def html(self) -> str:
        """The page without its bootstrap."""
        return _BOOTSTRAP.sub("", self.response.text)

    @property
    def cache(self) -> str:
        """hit, miss or bypass."""
        match = re.search(r'page;desc="(\w+)"', self.response.headers["server-timing"])
        assert match
        return match[1]


class PageSite:
    """The Worker in front of the origin."""

    def __init__(self, edge: LocalEdge, origin: Origin, environ: dict[str, str], take_exposures: Any) -> None:
        self.edge = edge
        self.origin = origin
        self._environ = environ
        self.team = origin
        """Where Cloudflare Access has its keys."""
        self.url = edge.worker_url(WORKER)
        self._take_exposures = take_exposures

    def get(self, path: str, *, visitor: str = "", country: str = "NO", **headers: str) -> Shown:
        """A page for a visitor; "" has no cookie yet. Header names with underscores."""
        return Shown(self.send("GET", path, visitor=visitor, country=country, **headers))

    def send(
        self, method: str, path: str, *, visitor: str = "", country: str = "NO", body: bytes = b"", **headers: str
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        cookie = "; ".join(text for text in (named.pop("cookie", ""), f"{COOKIE}={visitor}" if visitor else "") if text)
        sent = {CF_HEADER: json.dumps({"country": country})} | ({"cookie": cookie} if cookie else {}) | named
        with httpx.Client(base_url=self.url, timeout=30) as http:
            return http.request(method, path, headers=sent, content=body)

    def publish(self, state: bytes) -> str:
        """Have another state served; the run's outcome."""
        self.edge.publish_state(SECRET, state)
        with deploy(self.edge, self._environ) as site:
            return site.outcome

    def visitor_with(self, variant: str) -> str:
        """A visitor who gets a variant of `layout`."""
        path = self.origin.answer("/look")
        names = (f"visitor-{variant}-{number:08}" for number in range(1_000))
        return next(name for name in names if self.get(path, visitor=name).variants["layout"] == variant)

    def wait_until_kept(self, path: str) -> None:
        """A page is kept after the visitor has it."""
        host = self.url.removeprefix("http://")
        until = time.monotonic() + 5
        while not any(url.startswith(f"{host}{path}?") for url in self.edge.edge.cache.urls()):
            assert time.monotonic() < until, f"{path} is not kept"
            time.sleep(0.01)

    def wait_until_asked(self, path: str) -> None:
        """Until the origin was."""
        until = time.monotonic() + 5
        while not any(asked.path == path for asked in self.origin.asked):
            assert time.monotonic() < until, f"{path} is not asked for"
            time.sleep(0.01)

    def apply(self, page: Shown, *flags: str) -> httpx.Response:
        """Tell that a page used flags, as the helper does."""
        now = "2026-01-01T00:00:00Z"
        used = [{"flag": f"flags/{name}", "applyTime": now} for name in flags]
        token = page.bootstrap["resolveToken"]
        body = {"clientSecret": SECRET, "resolveToken": token, "flags": used, "sendTime": now}
        return httpx.post(f"{self.url}/v1/flags:apply", json=body)

    def log(self) -> str:
        """What the Worker has logged."""
        return (self.edge.directory / "logs" / f"{WORKER}.log").read_text()

    def exposures(self, count: int) -> list[Exposure]:
        """Waits for so many exposures; more are given if they are there."""
        found: list[Exposure] = []
        until = time.monotonic() + 5
        while len(found) < count and time.monotonic() < until:
            found += self._take_exposures()
            time.sleep(0.02)
        return found


@contextmanager
def run_page_site(directory: Path, *, state: bytes = PAYLOAD, **settings: str) -> Iterator[PageSite]:
    with run_origin() as origin, LocalEdge(dir=directory, grace_s=0.5) as edge:
        edge.publish_state(SECRET, state)
        environ = operator_environ(edge, SECRET) | SETTINGS | {"PAGE_ORIGIN": origin.url} | settings
        with deploy(edge, environ) as site:
            yield PageSite(edge, origin, environ, site.take_exposures)
