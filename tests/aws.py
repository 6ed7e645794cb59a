"""AWS on loopback: moto in a process of its own, and in front of it a server that counts calls and breaks them.

`run_aws` begins with empty accounts. Code under test finds it
the way it finds AWS, through AWS's own variables.
"""

from __future__ import annotations

import atexit
import functools
import http.client
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from boto3.session import Session
from botocore.loaders import Loader
from botocore.loaders import create_loader as create_new_loader

REGION = "eu-west-1"
# It ends with its standard input, so also when the tests are killed.
MOTO = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel("ERROR")
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass
class Break:
    """What one call gets instead of its answer: an error, or a connection that is cut without one.

    `done` says whether moto gets the request first.
    """

    done: bool
    status: int
    code: str
    body: bytes

    def answer(self, *, is_s3: bool) -> bytes:
        if self.body:
            return self.body
        if is_s3:
            return f"<Error><Code>{self.code}</Code><Message>broken by a test</Message></Error>".encode()
        return f'{{"__type":"{self.code}","message":"broken by a test"}}'.encode()


@dataclass
class Aws:
    """`calls` are what was asked since the start: S3's methods, other services' operations, and the region.

    `paths` are their paths with the query, in the same order.
    """

    moto_port: int
    calls: list[tuple[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    breaks: list[tuple[str, Break]] = field(default_factory=list)
    clients: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)
    writing: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """S3 compares and writes at once, which moto's threads do not."""
    url: str = ""

    def client(self, service: str, region: str = REGION) -> Any:
        """A client that goes to moto directly: neither counted nor broken."""
        if (service, region) not in self.clients:
            url = f"http://127.0.0.1:{self.moto_port}"
            self.clients[service, region] = Session().client(service, region_name=region, endpoint_url=url)
        return self.clients[service, region]

    def break_calls(
        self, operation: str, *, times: int = 1, done: bool = False, status: int = 0, code: str = "", body: bytes = b""
    ) -> None:
        """Break the next calls of an operation; without a status they are cut off."""
        self.breaks += [(operation, Break(done, status, code, body))] * times

    def next_break(self, operation: str) -> Break | None:
        for index, (broken, how) in enumerate(self.breaks):
            if broken == operation:
                del self.breaks[index]
                return how
        return None

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]


@functools.cache
def create_loader(paths: str | None = None) -> Loader:
    return create_new_loader(paths)


@functools.cache
def start_moto() -> int:
    """The port of the one moto of this test run."""
    process = subprocess.Popen([sys.executable, "-c", MOTO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.wait)
    atexit.register(process.stdin.close)  # the last one registered goes first.
    return int(process.stdout.readline())


@contextmanager
def run_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An empty AWS, and an environment in which boto3 finds nothing else."""
    aws = Aws(start_moto())
    send(aws.moto_port, "POST", "/moto-api/reset")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, aws))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    aws.url = f"http://127.0.0.1:{server.server_port}"
    set_aws_environment(monkeypatch, aws.url)
    try:
        yield aws
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def set_aws_environment(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(Path(__file__).parent / "no-such-file"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    # boto3 reads its models once for all tests, and nobody waits between attempts.
    monkeypatch.setattr("botocore.session.create_loader", create_loader)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


def send(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    """Passes a request on to moto, unless the test wants it broken."""

    protocol_version = "HTTP/1.1"

    def __init__(self, aws: Aws, *arguments: Any) -> None:
        self.aws = aws
        super().__init__(*arguments)

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        target = self.headers.get("x-amz-target", "")
        operation = target.rpartition(".")[2] or self.command
        _, _, region, *_ = self.headers["authorization"].split("/")  # the scope: key, day, region, service
        self.aws.calls.append((operation, region))
        self.aws.paths.append(self.path)
        broken = self.aws.next_break(operation)
        if broken is None or broken.done:
            headers = {key: value for key, value in self.headers.items() if key.lower() != "expect"}
            is_conditional = "if-match" in self.headers or "if-none-match" in self.headers
            with self.aws.writing if is_conditional else nullcontext():
                status, answered, content = send(self.aws.moto_port, self.command, self.path, body, headers)
        if broken and not broken.status:
            self.close_connection = True
            return
        if broken:
            status, answered, content = broken.status, [], broken.answer(is_s3=not target)
        self.send_response(status)
        for key, value in answered:
            if key.lower() not in {"content-length", "connection", "date", "server", "transfer-encoding"}:
                self.send_header(key, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any  # noqa: N815 (http.server's names)

    def log_message(self, *arguments: Any) -> None: ...
