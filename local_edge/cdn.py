"""The Confidence CDN: resolver states as files, named by the SHA-256 of the client secret that reads them.

ETags are strong and made of the content. `If-None-Match` is read by RFC 9110: a list of quoted tags, `W/` allowed,
or `*`; anything else, an unquoted tag above all, matches nothing.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

STATE_NAME = re.compile(r"[0-9a-f]{64}(\.enc)?")
ENTITY_TAGS = re.compile(r'\s*(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"\s*(?:,\s*(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"\s*)*')


def state_name(client_secret: str, *, encrypted: bool = False) -> str:
    digest = hashlib.sha256(client_secret.encode()).hexdigest()
    return f"{digest}.enc" if encrypted else digest


def matches(if_none_match: str, etag: str) -> bool:
    """Whether the header names `etag` (as quoted), compared weakly."""
    if if_none_match.strip() == "*":
        return True
    if not ENTITY_TAGS.fullmatch(if_none_match):
        return False
    return etag in re.findall(r'"[^"]*"', if_none_match)


class Cdn:
    """Serves the files of one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def publish(self, name: str, content: bytes) -> None:
        """Replace a state whole, so that no reader sees half of it."""
        unfinished = self.directory / f"{name}.part"
        unfinished.write_bytes(content)
        unfinished.replace(self.directory / name)

    async def get_state(self, request: Request) -> Response:
        name = request.path_params["name"]
        path = self.directory / name
        if not STATE_NAME.fullmatch(name) or not path.is_file():
            return Response("not found", 404, media_type="text/plain")
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        if matches(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers={"etag": etag})
        return Response(content, headers={"etag": etag}, media_type="application/octet-stream")
