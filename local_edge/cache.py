"""Cloudflare's cache as the Cache API meets it: a store by URL for each script, and the zone's purge.

Source: workerd's protocol (src/workerd/api/cache.c++): a match is a GET with `only-if-cached`, a put is a PUT whose
body is a whole HTTP response, a delete is PURGE. What the real one would not keep is not kept here.
"""

from __future__ import annotations

import http.client
import io
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from local_edge.envelope import RefusalError

ENTRIES_LIMIT = 1_000
PURGE_ITEMS_LIMIT = 100
PURGE_FORMS = ("files", "hosts", "prefixes", "tags", "purge_everything")
_LIFETIME = (re.compile(r"\bs-maxage=(\d+)"), re.compile(r"\bmax-age=(\d+)"))
_UNKEPT = re.compile(r"\b(?:private|no-store|no-cache)\b(?!=)")
_HOP_BY_HOP = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept response; the URL has no scheme, which the protocol does not tell."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    kept_at: float
    lifetime_s: float

    @property
    def tags(self) -> frozenset[str]:
        texts = [value for name, value in self.headers if name.lower() == "cache-tag"]
        return frozenset(tag.strip().lower() for text in texts for tag in text.split(","))


class Cache:
    """The cache of one place, for all scripts of the account."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._now = now

    async def answer(self, request: Request, script: str) -> Response:
        """What a Worker asks through its Cache API."""
        url = request.headers["host"] + request.scope["raw_path"].decode()
        if query := request.scope["query_string"].decode():
            url += f"?{query}"
        if request.method == "PUT":
            self._put(script, url, await request.body())
            return Response(status_code=204)
        if request.method == "PURGE":
            return Response(status_code=404 if self._entries.pop((script, url), None) is None else 200)
        return self._match(script, url)

    def _match(self, script: str, url: str) -> Response:
        entry = self._entries.get((script, url))
        age_s = 0.0 if entry is None else self._now() - entry.kept_at
        if entry is None or age_s >= entry.lifetime_s:
            return Response(status_code=504, headers={"cf-cache-status": "MISS"})
        response = Response(entry.body)
        for name, value in entry.headers:
            response.headers.append(name, value)
        response.headers["age"] = str(int(age_s))
        response.headers["cf-cache-status"] = "HIT"
        return response

    def _put(self, script: str, url: str, text: bytes) -> None:
        """Keep a response, or leave what is kept as it is: a put that was cut off is none."""
        given = _read_response(text)
        if given is None:
            return
        status, headers, body = given
        control = ",".join(value for name, value in headers if name.lower() == "cache-control").lower()
        names = {name.lower() for name, _ in headers}
        lifetime_s = next((int(match[1]) for form in _LIFETIME if (match := form.search(control))), 0)
        if status != 200 or "set-cookie" in names or _UNKEPT.search(control) or not lifetime_s:
            return
        while len(self._entries) >= ENTRIES_LIMIT:
            del self._entries[next(iter(self._entries))]
        self._entries.pop((script, url), None)
        self._entries[script, url] = Entry(url, headers, body, self._now(), lifetime_s)

    def urls(self) -> list[str]:
        return [entry.url for entry in self._entries.values()]

    def purge(self, request: Mapping[str, Any]) -> None:
        """One of the forms of a zone's purge; there is one zone here, which has all hosts. Raises RefusalError."""
        if len(request) != 1 or not request.keys() <= set(PURGE_FORMS):
            raise RefusalError(400, 1012, f"Request must contain one of {', '.join(PURGE_FORMS)}")
        ((form, items),) = request.items()
        if form == "purge_everything":
            if items is not True:
                raise RefusalError(400, 1012, "purge_everything must be true")
            self._entries.clear()
            return
        if not isinstance(items, list) or not items or not all(isinstance(item, str) for item in items):
            raise RefusalError(400, 1012, f"{form} must be a list of texts")
        if len(items) > PURGE_ITEMS_LIMIT:
            raise RefusalError(400, 1094, f"at most {PURGE_ITEMS_LIMIT} {form} can be purged with a request")
        if form == "prefixes" and any("://" in item for item in items):
            raise RefusalError(400, 1094, "a prefix has no scheme")
        self._entries = {key: entry for key, entry in self._entries.items() if not _is_meant(entry, form, items)}


def _is_meant(entry: Entry, form: str, items: Sequence[str]) -> bool:
    if form == "tags":
        return bool(entry.tags & {item.lower() for item in items})
    if form == "hosts":
        return entry.url.split("/", 1)[0] in items
    if form == "prefixes":
        return any(entry.url.startswith(item) for item in items)
    return any(entry.url == item.removeprefix(f"{urlsplit(item).scheme}://") for item in items)


def _read_response(text: bytes) -> tuple[int, tuple[tuple[str, str], ...], bytes] | None:
    """Status, headers and body of a response as it went over the wire; None for one that is not whole.

    workerd writes Transfer-Encoding where it does not know a length, and the body as it is all the same.
    """
    file = io.BytesIO(text)
    status = file.readline().split()[1:2]
    try:
        fields = http.client.parse_headers(file)
    except http.client.HTTPException:
        return None
    body = file.read()
    if not status or len(body) < int(fields.get("content-length", "0")):
        return None
    headers = tuple((name, value) for name, value in fields.items() if name.lower() not in _HOP_BY_HOP)
    return int(status[0]), headers, body
