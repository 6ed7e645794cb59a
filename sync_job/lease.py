"""One writer at a time: the lease around everything that a run changes.

    where             how it is kept
    ''                flock on a file of this user, named by a digest of the lease's name
    PATH, file:PATH   flock on that file
    s3://BUCKET/KEY   an object under conditional writes: If-None-Match takes; If-Match takes over, renews and releases
    off               not at all: whatever starts the runs keeps them apart

A file's lease ends with its process, however that ends. An object's ends at a time that stands in it; another run
takes it over only `margin_s` later, so clocks may differ by as much. A lease cannot stop a run that does not look:
`renew()` before each step that writes. Source: "Conditional requests" in the Amazon S3 User Guide; flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import structlog

from flagedge.errors import ApiError, DecodeError, FlagedgeError, LocalError, SettingsError, UnavailableError
from flagedge.references import explain_failure, is_network_failure, open_client

OFF = "off"
TTL_S = 300.0
MARGIN_S = 30.0
_MARK = b"lease of "
"""How the line in a lease's file begins, so that no other file is taken for one."""
_BODY_BYTES_MAX = 4096
_TAKE_ATTEMPTS = 3
_PERMISSIONS = "s3:GetObject, s3:PutObject and s3:DeleteObject on it, s3:ListBucket on its bucket"
_log = structlog.get_logger()


class LeaseHeldError(FlagedgeError):
    """Another run is writing: this one leaves the work to it."""

    exit_code = 0

    def __init__(self, where: str, holder: str) -> None:
        super().__init__(
            f"another run has the lease {where}: {holder or 'it has not said which'}",
            hint="Nothing to do: it does the work of this one",
        )


class LeaseLostError(FlagedgeError):
    """The lease ran out and another run took it: this one must not write any more."""

    def __init__(self, where: str, holder: str) -> None:
        super().__init__(
            f"the lease {where} was lost to {holder or 'a run that is gone again'}",
            hint="Just run again: what is half done is done again from its start",
        )


class Lease(ABC):
    """Held inside its `with` block, which raises LeaseHeldError when another run has it."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.where!r})"

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._release()
        except Exception as error:  # noqa: BLE001 (what the block did or raised counts for more; a lease ends without us)
            _log.warning("lease.release_failed", lease=self.where, error=str(error))

    @abstractmethod
    def renew(self) -> None:
        """Make sure that the lease is still ours; asks nobody before a third of its time is gone.

        Raises LeaseLostError when it is another's, and ApiError when that cannot be found out.
        """

    @abstractmethod
    def _take(self) -> None: ...

    @abstractmethod
    def _release(self) -> None: ...


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
        return _S3Lease(where, bucket, key, holder=holder, ttl_s=ttl_s, margin_s=margin_s, now=now)
    path = where.removeprefix("file://") if where.startswith("file:///") else where.removeprefix("file:")
    if (where and not path) or path.startswith("//") or "://" in path:
        raise SettingsError([f"a lease is a PATH, file:PATH, s3://BUCKET/KEY or off, which {where} is not"])
    try:
        file = Path(path).expanduser() if path else _default_path(name)
    except RuntimeError as exc:
        raise SettingsError([f"the lease {where}: {exc}"]) from exc
    return _FileLease(file, holder=holder, now=now)


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


class _FileLease(Lease):
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
        line, _, _ = os.pread(self._file, _BODY_BYTES_MAX, 0).partition(b"\n")
        return line.removeprefix(_MARK).decode(errors="replace")

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), self._path.lstat())
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the object says. The nonce tells runs apart that are equal in all else, entity tag included."""

    nonce: str
    holder: str
    taken_at: datetime
    expires_at: datetime

    def encode(self) -> bytes:
        times = {"taken_at": self.taken_at.isoformat(), "expires_at": self.expires_at.isoformat()}
        return json.dumps({"nonce": self.nonce, "holder": self.holder, **times}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises ValueError, KeyError or TypeError for what is no claim."""
        body = json.loads(data)
        taken_at, expires_at = (datetime.fromisoformat(body[key]) for key in ("taken_at", "expires_at"))
        return cls(str(body["nonce"]), str(body["holder"]), taken_at.astimezone(UTC), expires_at.astimezone(UTC))

    def __str__(self) -> str:
        return f"{self.holder}, since {self.taken_at:%FT%TZ}, until {self.expires_at:%FT%TZ}"


@dataclass(frozen=True, slots=True)
class _Found:
    """A claim as it lies in the bucket."""

    claim: _Claim
    etag: str


class _ConditionError(FlagedgeError):
    """The object is not, or not any more, what the request expected."""


class _S3Lease(Lease):
    """An object whose every change names the state that it changes."""

    def __init__(
        self,
        where: str,
        bucket: str,
        key: str,
        *,
        holder: str,
        ttl_s: float,
        margin_s: float,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(where)
        self._object = {"Bucket": bucket, "Key": key}
        self._holder = holder
        self._ttl = timedelta(seconds=ttl_s)
        self._margin = timedelta(seconds=margin_s)
        self._now = now
        self._client: Any = None
        self._ours: _Found | None = None

    def renew(self) -> None:
        ours = self._ours
        if ours is None or self._now() < ours.claim.expires_at - self._ttl * 2 / 3:
            return
        claim = replace(ours.claim, expires_at=self._now() + self._ttl)
        found = self._write(claim, over=ours)
        if found and found.claim != claim and found.claim.nonce == claim.nonce:
            # An earlier renewal was done, only its answer was lost.
            found = self._write(claim, over=found)
        if found is None or found.claim != claim:
            self._ours = None
            raise LeaseLostError(self.where, str(found.claim) if found else "")
        self._ours = found

    def _take(self) -> None:
        taken_at = self._now()
        claim = _Claim(secrets.token_hex(16), self._holder, taken_at, taken_at + self._ttl)
        found: _Found | None = None
        for _ in range(_TAKE_ATTEMPTS):
            previous, found = found, self._write(claim, over=found)
            if found and found.claim == claim:
                self._ours = found
                if previous:
                    _log.warning("lease.taken_over", lease=self.where, previous=str(previous.claim))
                return
            if found and self._now() < found.claim.expires_at + self._margin:
                break
        raise LeaseHeldError(self.where, str(found.claim) if found else "")

    def _release(self) -> None:
        ours, self._ours = self._ours, None
        # Past its time it may be another run's, and not every S3 heeds If-Match when it deletes.
        if ours is None or self._now() >= ours.claim.expires_at:
            return
        try:
            self._delete(ours)
        except _ConditionError:
            found = self._read()
            if found and found.claim.nonce == ours.claim.nonce:
                self._delete(found)
            elif found:
                raise LeaseLostError(self.where, str(found.claim)) from None

    def _write(self, claim: _Claim, *, over: _Found | None) -> _Found | None:
        """Put the claim where there is what `over` says, None being nothing; returns what is there afterwards.

        Neither refusal nor silence means that it was not written: boto3 repeats a request whose answer was lost, and
        is then refused because of itself. So what is there decides.
        """
        condition = {"IfMatch": over.etag} if over else {"IfNoneMatch": "*"}
        try:
            with self._asking() as s3:
                answer = s3.put_object(**self._object, **condition, Body=claim.encode(), ContentType="application/json")
        except _ConditionError:
            return self._read()
        except UnavailableError:
            found = self._read()
            if found and found.claim == claim:
                return found
            raise
        return _Found(claim, answer["ETag"])

    def _read(self) -> _Found | None:
        try:
            with self._asking() as s3:
                answer = s3.get_object(**self._object)
                with answer["Body"] as body:
                    data = body.read(_BODY_BYTES_MAX)
        except _ConditionError:
            return None
        try:
            return _Found(_Claim.decode(data), answer["ETag"])
        except (ValueError, KeyError, TypeError, RecursionError):
            hint = "Name another key for the lease, or delete what is there"
            raise DecodeError(f"{self.where} holds something else than a lease", hint=hint) from None

    def _delete(self, found: _Found) -> None:
        with self._asking() as s3:
            s3.delete_object(**self._object, IfMatch=found.etag)

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """The client, its errors made ours."""
        self._client = self._client or open_client("s3")
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        from botocore.parsers import ResponseParserError  # noqa: PLC0415

        try:
            yield self._client
        except ClientError as exc:
            raise _translate_refusal(self.where, exc.response) from exc
        except (BotoCoreError, ResponseParserError) as exc:
            if is_network_failure(exc):
                raise UnavailableError(f"the lease {self.where}: S3 did not answer", hint="Run again") from exc
            raise SettingsError([f"the lease {self.where}: {explain_failure(exc)}"]) from exc


def _translate_refusal(where: str, response: Mapping[str, Any]) -> FlagedgeError:
    status, code = response["ResponseMetadata"]["HTTPStatusCode"], response["Error"].get("Code", "")
    message = f"the lease {where}: S3 answered {status} {code}"
    if status in {409, 412} or code == "NoSuchKey":
        return _ConditionError(message)
    if status >= 500:
        return UnavailableError(message, status=status, hint="Run again")
    hint = f"Check bucket, region and credentials, and allow {_PERMISSIONS}"
    return ApiError(message, status=status, hint=hint)
