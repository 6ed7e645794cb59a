"""A lease as a lock on a file of this machine: it ends with its process, however that ends. Source: flock(2)."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from flagedge.errors import FlagedgeError, LocalError
from sync_job.lease import Lease, LeaseHeldError, LeaseLostError

_MARK = b"lease of "
"""How the line in a lease's file begins, so that no other file is taken for one."""
_LINE_BYTES_MAX = 4096


class FileLease(Lease):
    """flock: the kernel lets go when the process ends, so nothing runs out and nothing is renewed.

    The file stays. Were it deleted, a run that had it open could lock a file that is in no directory any more, while
    the next one locks its successor.
    """

    def __init__(self, path: Path, *, holder: str, now: Callable[[], datetime]) -> None:
        super().__init__(str(path))
        self._path = path
        self._holder = holder
        self._now = now
        self._file = -1

    def renew(self) -> None:
        # Whoever deletes the file all the same lets another run in.
        if not self._is_in_place():
            raise LeaseLostError(self.where, "")

    def _take(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A link could lead to a file that is worth something.
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._lock()
        except OSError as exc:
            self._close()
            raise LocalError(
                f"the lease file {self._path} cannot be used: {exc.strerror}",
                hint="Name a file that this user may write to, or s3://BUCKET/KEY",
            ) from exc
        except FlagedgeError:
            self._close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LeaseHeldError(self.where, self._read_holder()) from None
        if not self._is_in_place():
            raise OSError(errno.ESTALE, "it was deleted or replaced at this moment")
        # A machine that lost its power may have left zeros.
        head = os.pread(self._file, len(_MARK), 0)
        if head != _MARK and head.strip(b"\0"):
            raise LocalError(f"{self._path} holds something else than a lease", hint="Name another file for it")
        line = _MARK + f"{self._holder}, since {self._now():%FT%TZ}, until it ends\n".encode()
        # In this order an end in between leaves a whole first line, with rubbish behind it at most.
        os.ftruncate(self._file, os.pwrite(self._file, line, 0))

    def _release(self) -> None:
        try:
            os.ftruncate(self._file, 0)
        finally:
            self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _read_holder(self) -> str:
        line, _, _ = os.pread(self._file, _LINE_BYTES_MAX, 0).partition(b"\n")
        return line.removeprefix(_MARK).decode(errors="replace")

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), self._path.lstat())
        except OSError:
            return False
