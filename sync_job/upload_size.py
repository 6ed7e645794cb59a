"""What the platform has room for, against what an upload takes."""

from __future__ import annotations

from collections.abc import Collection

from sync_job.assemble import Upload
from sync_job.findings import ISOLATE_MAX_BYTES, WORKER_MAX_BYTES, Finding, Found, Note

# Measured in workerd's heap, all flags in use: 2.8 to 4.1 bytes live and up to 5.5 held for a byte of the plan's text.
_HEAP_PER_TEXT_BYTE = 5
_HEAP_BASE_BYTES = 5_000_000


def check_upload_size(upload: Upload, *, accept: Collection[Finding] = ()) -> tuple[Note, ...]:
    """Notes on an upload that takes more than half of what the platform has. Raises StateError if it takes more.

    An isolate holds the plan's text parsed, which is several times its size, and every other module as it is. One that
    is more than half full has no room for a second plan while one replaces the other.
    """
    found = Found()
    text_bytes = sum(len(module.content) for module in upload.modules if module.content_type == "text/plain")
    heap_bytes = _HEAP_BASE_BYTES + upload.size_bytes + (_HEAP_PER_TEXT_BYTE - 1) * text_bytes
    for size_bytes, most_bytes, too_large, large in (
        (upload.size_bytes, WORKER_MAX_BYTES, Finding.WORKER_TOO_LARGE, Finding.WORKER_LARGE),
        (heap_bytes, ISOLATE_MAX_BYTES, Finding.ISOLATE_TOO_LARGE, Finding.ISOLATE_LARGE),
    ):
        if 2 * size_bytes > most_bytes:
            found.add(too_large if size_bytes > most_bytes else large, f"{size_bytes} bytes")
    return found.judge(accept)
