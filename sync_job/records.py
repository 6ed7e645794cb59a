"""Deployment records: what a run changed, and which shares are in force by which state, for the flag-logs queue.

Source: docs/log-format.md, "The deployment record, version 1".
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from sync_job.occasion import Trigger

FORMAT = "flagedge/deployment/1"
MESSAGE_MAX_BYTES = 127_000
Outcome = Literal["deployed", "refused", "returned", "failed"]
_ROWS_MAX_BYTES = 100_000
"""Of a part. What is left is for the envelope and the deployment, whose length varies: a record that is written again
has its rows in the same parts."""
_ID_BYTES = 16
_TEXT_MAX_CHARS = 2000
_VALUE_MAX_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class Deployment:
    """The record's own row. Times are epoch milliseconds; `timings_ms` is by step."""

    worker: str
    outcome: Outcome
    started_at_ms: int
    finished_at_ms: int
    reason: str = ""
    trigger: Trigger = "schedule"
    actor: str = ""
    why: str = ""
    previous_state_etag: str = ""
    version_id: str = ""
    previous_version_id: str = ""
    settings_digest: str = ""
    timings_ms: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """A deployment, a refusal or a return; `changes` and `allocations` are rows as the format has them."""

    record_id: str
    state_etag: str
    worker_version: str
    deployment: Deployment
    changes: Sequence[Mapping[str, Any]] = ()
    allocations: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def new_record_id() -> str:
    """22 characters that nobody else has."""
    return _id_text(secrets.token_bytes(_ID_BYTES))


def derive_record_id(*facts: str) -> str:
    """The same 22 characters for the same facts."""
    return _id_text(hashlib.sha256(json.dumps(facts).encode()).digest()[:_ID_BYTES])


def _id_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def write_messages(record: Record) -> list[str]:
    """The record as messages of at most 127,000 bytes each, ready to be sent. Same record, same messages.

    A text or a value that would not leave room for others is cut, or left out and said to be.
    """
    deployment = asdict(record.deployment)
    deployment = {name: _cut(value) if isinstance(value, str) else value for name, value in deployment.items()}
    rows = [("changes", _fit(row)) for row in record.changes]
    rows += [("allocations", dict(row)) for row in record.allocations]
    parts = list(_split(rows))
    messages = []
    for number, part in enumerate(parts):
        body = _envelope(record, number, len(parts))
        body |= {"deployment": deployment} if number == 0 else {}
        body |= {name: [row for kind, row in part if kind == name] for name in ("changes", "allocations")}
        body["row_count"] = len(part) + (number == 0)
        messages.append(_dump(body).decode())
    return messages


def _envelope(record: Record, seq: int, part_count: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "isolate": record.record_id,
        "seq": seq,
        "part_count": part_count,
        "sent_at_ms": record.deployment.finished_at_ms,
        "state_etag": record.state_etag,
        "worker_version": record.worker_version,
        "row_count": 0,
        "dropped_count": 0,
        "changes": [],
        "allocations": [],
    }


def _split(rows: Iterable[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    """Rows in parts that fit; at least one part."""
    part: list[tuple[str, Any]] = []
    left = _ROWS_MAX_BYTES
    for kind, row in rows:
        size = len(_dump(row)) + 1
        if part and size > left:
            yield part
            part, left = [], _ROWS_MAX_BYTES
        part.append((kind, row))
        left -= size
    yield part


def _fit(change: Mapping[str, Any]) -> dict[str, Any]:
    """A change whose parts are of a size to be shown."""
    fitted = dict(change) | {"text": _cut(change["text"])}
    for name in ("old", "new"):
        if len(_dump(change[name])) > _VALUE_MAX_CHARS:
            fitted[name] = {"too_long_bytes": len(_dump(change[name]))}
    return fitted


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX_CHARS else f"{text[:_TEXT_MAX_CHARS]}…"


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def read_record(data: bytes) -> Record:
    """What `json.dumps(record.to_json())` wrote. Raises ValueError, TypeError or KeyError for something else."""
    told = json.loads(data)
    known = {each.name for each in fields(Deployment)}
    deployment = Deployment(**{key: value for key, value in told["deployment"].items() if key in known})
    return Record(**told | {"deployment": deployment})
