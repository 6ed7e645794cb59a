"""Writes a DuckDB file anew: what was deleted stays in empty blocks, readable, until something takes its place.

The new file takes the old one's name at once, while the old one is held. Who had opened the old one by then, and gets
its lock when we let go, sees that the name is another file's and opens that (file.py).
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import duckdb

from flagedge.errors import LocalError
from log_consumer.engine import quote
from log_consumer.file import STORAGE_VERSION

SUFFIX = ".rewrite"


def rewrite_file(connection: duckdb.DuckDBPyConnection, path: str) -> int:
    """Rewrite the file at `path`, which `connection` holds as `store`; the bytes of the new one.

    Needs as much space on the disk again. A run that is killed leaves at most a file that the next one removes. Raises
    LocalError when the disk is full or may not be written; the old file is untouched then.
    """
    old = Path(path).resolve()
    new = old.with_name(old.name + SUFFIX)
    try:
        _remove(new)
        connection.execute("checkpoint store")
        connection.execute(f"attach {quote(str(new))} as fresh (type duckdb, storage_version '{STORAGE_VERSION}')")
        try:
            connection.execute("copy from database store to fresh")
            connection.execute("checkpoint fresh")
        finally:
            connection.execute("detach fresh")
        shutil.copymode(old, new)
        sync_path(new)
        new.replace(old)
    except (duckdb.Error, OSError) as exc:
        with suppress(OSError):
            _remove(new)
        raise LocalError(f"cannot rewrite {path}: {exc}", hint="It needs as much free space as the file has") from exc
    sync_path(old.parent)
    return old.stat().st_size


def _remove(new: Path) -> None:
    for path in (new, new.with_name(new.name + ".wal")):
        with suppress(FileNotFoundError):
            path.unlink()


def sync_path(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
