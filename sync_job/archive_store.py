"""Where archived states lie: files in a folder, or objects in S3, each named by its entity tag.

where               what
''                  a folder in the home directory; nothing where there is no home that can be written to
PATH, file:PATH     that folder
s3://BUCKET/PREFIX  objects below that prefix
off                 nothing
"""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from flagedge.errors import FlagedgeError, SettingsError
from flagedge.references import explain_failure, open_client

OFF = "off"
_NAME_MAX_CHARS = 200
_PERMISSIONS = "s3:GetObject, s3:PutObject and s3:DeleteObject below it, s3:ListBucket on its bucket"


class ArchiveError(FlagedgeError):
    """The archive cannot be reached, or has not what is asked for."""


class NoArchiveError(ArchiveError):
    """Something from the archive is needed, and none is kept."""

    def __init__(self) -> None:
        super().__init__("no archive of states is kept", hint="Set STATE_ARCHIVE to a folder or s3://BUCKET/PREFIX")


class Store(ABC):
    """Bytes by entity tag. Every method raises ArchiveError where the store cannot be used."""

    def __init__(self, where: str, suffix: str) -> None:
        self.where = where
        self._suffix = suffix

    @abstractmethod
    def read(self, etag: str) -> bytes | None:
        """None for what is not there."""

    @abstractmethod
    def write(self, etag: str, data: bytes) -> None:
        """Whole or not at all, over what is there."""

    @abstractmethod
    def delete(self, etag: str) -> None:
        """Also what is not there."""

    @abstractmethod
    def list_names(self) -> Iterator[tuple[str, datetime]]:
        """Entity tags, and when each was written."""

    def _name(self, etag: str) -> str:
        name = quote(etag, safe="")
        if not etag or len(name) > _NAME_MAX_CHARS:
            raise ArchiveError(f"a state cannot be archived under the entity tag {etag[:_NAME_MAX_CHARS]!r}")
        return name + self._suffix

    def _etag(self, name: str) -> str | None:
        """None for the name of something else."""
        return unquote(name.removesuffix(self._suffix)) if name.endswith(self._suffix) else None


def open_store(where: str, *, below: Sequence[str] = (), suffix: str = "") -> Store | None:
    """The store at `where`, in a part of its own; nothing is touched yet. Raises SettingsError for a wrong `where`."""
    if where.lower() == OFF:
        return None
    if where.startswith("s3:"):
        bucket, _, prefix = where.removeprefix("s3://").partition("/")
        if ":" in bucket or not bucket:
            raise SettingsError([f"an archive in S3 is s3://BUCKET/PREFIX, which {where} is not"])
        return _S3Store(bucket, "/".join([*filter(None, prefix.split("/")), *below]), suffix)
    path = where.removeprefix("file://") if where.startswith("file:///") else where.removeprefix("file:")
    if (where and not path) or path.startswith("//") or "://" in path:
        raise SettingsError([f"an archive is a PATH, file:PATH, s3://BUCKET/PREFIX or off, which {where} is not"])
    try:
        folder = Path(path).expanduser() if path else _default_folder()
    except RuntimeError as exc:
        raise SettingsError([f"the archive {where}: {exc}"]) from exc
    return _FolderStore(folder.joinpath(*below), suffix) if folder else None


def _default_folder() -> Path | None:
    with suppress(RuntimeError):  # a container's user may have no home.
        home = Path.home()
        if os.access(home, os.W_OK):
            return home / ".local/state/flagedge/states"
    return None


class _FolderStore(Store):
    """Files of this user alone."""

    def __init__(self, folder: Path, suffix: str) -> None:
        super().__init__(str(folder), suffix)
        self._folder = folder

    def read(self, etag: str) -> bytes | None:
        path = self._folder / self._name(etag)
        with self._using():
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def write(self, etag: str, data: bytes) -> None:
        path = self._folder / self._name(etag)
        with self._using():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Written beside it and moved, so that nobody ever finds half of it.
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as part:
                try:
                    part.write(data)
                    part.flush()
                    os.fsync(part.fileno())
                    Path(part.name).replace(path)
                except BaseException:
                    Path(part.name).unlink(missing_ok=True)
                    raise

    def delete(self, etag: str) -> None:
        with self._using():
            (self._folder / self._name(etag)).unlink(missing_ok=True)

    def list_names(self) -> Iterator[tuple[str, datetime]]:
        with self._using():
            try:
                files = list(self._folder.iterdir())
            except FileNotFoundError:
                return
            for path in files:
                etag = self._etag(path.name)
                if etag is not None:
                    yield etag, datetime.fromtimestamp(path.stat().st_mtime, UTC)

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise ArchiveError(
                f"the archive {self.where} cannot be used: {exc.strerror}",
                hint="Set STATE_ARCHIVE to a folder that this user may write to, s3://BUCKET/PREFIX, or off",
            ) from exc


class _S3Store(Store):
    """Objects; S3 never shows half of one."""

    def __init__(self, bucket: str, prefix: str, suffix: str) -> None:
        super().__init__(f"s3://{bucket}/{prefix}", suffix)
        self._bucket = bucket
        self._prefix = f"{prefix}/"
        self._client: Any = None

    def read(self, etag: str) -> bytes | None:
        key = self._prefix + self._name(etag)
        with self._asking() as s3:
            try:
                answer = s3.get_object(Bucket=self._bucket, Key=key)
            except s3.exceptions.NoSuchKey:
                return None
            with answer["Body"] as body:
                data: bytes = body.read()
                return data

    def write(self, etag: str, data: bytes) -> None:
        key = self._prefix + self._name(etag)
        with self._asking() as s3:
            s3.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType="application/octet-stream")

    def delete(self, etag: str) -> None:
        key = self._prefix + self._name(etag)
        with self._asking() as s3:
            s3.delete_object(Bucket=self._bucket, Key=key)

    def list_names(self) -> Iterator[tuple[str, datetime]]:
        with self._asking() as s3:
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
                for found in page.get("Contents", ()):
                    etag = self._etag(found["Key"].removeprefix(self._prefix))
                    if etag is not None:
                        yield etag, found["LastModified"]

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """The client, its errors made ours."""
        try:
            self._client = self._client or open_client("s3")
        except SettingsError as exc:
            raise ArchiveError(f"the archive {self.where}: {'; '.join(exc.problems)}") from exc
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 (an extra)
        from botocore.parsers import ResponseParserError  # noqa: PLC0415

        try:
            yield self._client
        except ClientError as exc:
            status, code = exc.response["ResponseMetadata"]["HTTPStatusCode"], exc.response["Error"].get("Code", "")
            hint = f"Check bucket, region and credentials, and allow {_PERMISSIONS}"
            raise ArchiveError(f"the archive {self.where}: S3 answered {status} {code}", hint=hint) from exc
        except (BotoCoreError, ResponseParserError) as exc:
            raise ArchiveError(f"the archive {self.where}: {explain_failure(exc)}") from exc
