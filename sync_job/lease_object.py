"""A lease as an object in S3: If-None-Match takes it; If-Match takes over, renews and releases.

It ends at a time that stands in it; another run takes it over only `margin_s` later, so clocks may differ by as much.
Source: "Conditional requests" in the Amazon S3 User Guide.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import structlog

from flagedge.errors import ApiError, DecodeError, FlagedgeError, SettingsError, UnavailableError
from flagedge.references import explain_failure, is_network_failure, open_client
from sync_job.lease import Lease, LeaseHeldError, LeaseLostError

_BODY_BYTES_MAX = 4096
_TAKE_ATTEMPTS = 3
_PERMISSIONS = "s3:GetObject, s3:PutObject and s3:DeleteObject on it, s3:ListBucket on its bucket"
_log = structlog.get_logger()


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


class ObjectLease(Lease):
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
