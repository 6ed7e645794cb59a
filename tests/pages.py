"""A web site on loopback: paths and what lies there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePath

_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


@contextmanager
def serve_pages(files: Mapping[str, bytes], seen: list[str] | None = None) -> Iterator[str]:
    """Serve files by their path; the site's URL. The methods of other requests than for files are noted in `seen`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("content-type", _TYPES.get(PurePath(self.path).suffix, "text/plain"))
            self.end_headers()
            self.wfile.write(body or b"")

        def do_POST(self) -> None:
            if seen is not None:
                seen.append(self.command)
            self.send_error(404)

        def do_OPTIONS(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the class above)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
