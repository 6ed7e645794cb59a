"""Where a lease is kept: what LEASE may say.

where             how it is kept
''                flock on a file of this user, named by a digest of the lease's name
PATH, file:PATH   flock on that file
s3://BUCKET/KEY   an object under conditional writes
off               not at all: whatever starts the runs keeps them apart
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from flagedge.errors import SettingsError
from sync_job.lease import Lease
from sync_job.lease_file import FileLease
from sync_job.lease_object import ObjectLease

OFF = "off"
TTL_S = 300.0
MARGIN_S = 30.0


def open_lease(
    where: str,
    name: str,
    *,
    holder: str = "",
    ttl_s: float = TTL_S,
    margin_s: float = MARGIN_S,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Lease:
    """The lease at `where`, not taken yet: nothing is touched or asked before its `with` block.

    `name` is what is written to; where no place is given, runs of the same name exclude each other. `holder` is what
    those are told who come second, this host and process by default. Raises SettingsError for a `where` that is none.
    """
    holder = holder or f"{socket.gethostname()} pid {os.getpid()}"
    if where.lower() == OFF:
        return _NoLease(where)
    if where.startswith("s3:"):
        bucket, _, key = where.removeprefix("s3://").partition("/")
        if ":" in bucket or not bucket or not key or key.endswith("/"):
            raise SettingsError([f"a lease in S3 is s3://BUCKET/KEY, which {where} is not"])
        return ObjectLease(where, bucket, key, holder=holder, ttl_s=ttl_s, margin_s=margin_s, now=now)
    path = where.removeprefix("file://") if where.startswith("file:///") else where.removeprefix("file:")
    if (where and not path) or path.startswith("//") or "://" in path:
        raise SettingsError([f"a lease is a PATH, file:PATH, s3://BUCKET/KEY or off, which {where} is not"])
    try:
        file = Path(path).expanduser() if path else _default_path(name)
    except RuntimeError as exc:
        raise SettingsError([f"the lease {where}: {exc}"]) from exc
    return FileLease(file, holder=holder, now=now)


def _default_path(name: str) -> Path:
    """A file in the home directory: temporary ones are cleaned up, and differ between services of one user."""
    file = f"sync-job-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    with suppress(RuntimeError):  # a container's user may have no home.
        home = Path.home()
        if os.access(home, os.W_OK):
            return home / ".local/state/flagedge" / file
    return Path(tempfile.gettempdir()) / f"flagedge-{os.getuid()}" / file


class _NoLease(Lease):
    """Somebody else keeps the runs apart."""

    def renew(self) -> None: ...

    def _take(self) -> None: ...

    def _release(self) -> None: ...
