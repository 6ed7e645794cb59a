"""Every state that was deployed, by entity tag: for `explain --etag`, `rollback`, and a redeployment without the CDN.

An entry is a file or an object, written whole or not at all:

    SHA-256 of all that follows, in hex \\n
    {"format": 1, "etag": …, "account": …, "previous_etag": …} \\n
    gzip of a ResolverState

Client secrets are their digests (see decode.py), and what this version does not know of clients is left out, as it may
be another secret. What decides is kept to the last byte: an archived state compiles to the plan of its day.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.message import DecodeError as ProtobufDecodeError

from flagedge.wire import state_pb2
from sync_job.archive_store import ArchiveError, NoArchiveError, Store, open_store
from sync_job.decode import DecodedState
from sync_job.settings import SyncSettings
from sync_job.workers_api import WorkersApi

FORMAT = 1
_SUFFIX = ".state"


@dataclass(frozen=True, slots=True)
class ArchivedState:
    """A state as it was deployed; `previous_etag` is of the one that was live before, "" where that is not known."""

    etag: str
    previous_etag: str
    decoded: DecodedState


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """`deployed_at` is when the state was last put, shortly before it went live."""

    etag: str
    deployed_at: datetime


@dataclass(frozen=True, slots=True)
class Archive:
    """The states of one Worker."""

    store: Store

    def put(self, decoded: DecodedState, *, etag: str, previous_etag: str) -> None:
        """Keep a state; one with this entity tag is replaced. Raises ArchiveError."""
        facts = {"format": FORMAT, "etag": etag, "account": decoded.account, "previous_etag": previous_etag}
        body = gzip.compress(_without_strange_clients(decoded.resolver_state).SerializeToString(), mtime=0)
        content = json.dumps(facts).encode() + b"\n" + body
        self.store.write(etag, _digest(content) + b"\n" + content)

    def load(self, etag: str) -> ArchivedState:
        """The state with this entity tag, its quotes left off or not.

        Raises ArchiveError for one that is not there, cannot be read or is damaged.
        """
        quoted = etag if etag.endswith('"') else f'"{etag}"'
        read = ((name, self.store.read(name)) for name in dict.fromkeys((etag, quoted)))
        found = next(((name, data) for name, data in read if data is not None), None)
        if found is None:
            known = ", ".join(entry.etag for entry in self.list_entries()[:5])
            raise ArchiveError(
                f"the archive {self.store.where} has no state {etag}", hint=f"The latest are {known}" if known else ""
            )
        try:
            return _decode_entry(*found)
        except (ValueError, KeyError, EOFError, OSError, zlib.error, ProtobufDecodeError) as error:
            raise ArchiveError(
                f"the archive {self.store.where} holds state {etag}, but it is damaged",
                hint="Delete it there; it is kept again when it is next deployed",
            ) from error

    def has(self, etag: str) -> bool:
        """Whether the state is there and undamaged."""
        try:
            self.load(etag)
        except ArchiveError:
            return False
        return True

    def list_entries(self) -> list[ArchiveEntry]:
        """The newest first. Raises ArchiveError."""
        entries = [ArchiveEntry(etag, written_at) for etag, written_at in self.store.list_names()]
        return sorted(entries, key=lambda entry: entry.deployed_at, reverse=True)

    def prune(self, *, keep: Collection[str], now: datetime, retention: timedelta) -> int:
        """Delete what was superseded longer ago than `retention`, but for the entity tags in `keep`; how many.

        A state was live until the next one was put. Raises ArchiveError.
        """
        entries = self.list_entries()
        over = [
            entry.etag
            for successor, entry in itertools.pairwise(entries)
            if successor.deployed_at < now - retention and entry.etag not in keep
        ]
        for etag in over:
            self.store.delete(etag)
        return len(over)


def open_archive(settings: SyncSettings, api: WorkersApi) -> Archive | None:
    """The archive of this account's Worker; None where none is kept. Touches no file and no bucket yet."""
    store = open_store(settings.archive, below=(api.find_account_id(), settings.worker.worker_name), suffix=_SUFFIX)
    return Archive(store) if store else None


def load_state(settings: SyncSettings, api: WorkersApi, etag: str) -> ArchivedState:
    """The state that was deployed with this entity tag. Raises ArchiveError."""
    archive = open_archive(settings, api)
    if archive is None:
        raise NoArchiveError
    return archive.load(etag)


def _without_strange_clients(state: state_pb2.ResolverState) -> state_pb2.ResolverState:
    """The state without fields of clients and of the state itself that this version does not know."""
    kept = state_pb2.ResolverState()
    for field, value in state.ListFields():
        getattr(kept, field.name).MergeFrom(value)
    for message in (*kept.clients, *kept.client_credentials):
        message.DiscardUnknownFields()
    return kept


def _decode_entry(etag: str, data: bytes) -> ArchivedState:
    digest, _, content = data.partition(b"\n")
    head, _, body = content.partition(b"\n")
    if digest != _digest(content):
        raise ValueError
    facts = json.loads(head)
    if facts["format"] != FORMAT or facts["etag"] != etag:
        raise ValueError
    state = state_pb2.ResolverState.FromString(gzip.decompress(body))
    return ArchivedState(etag, facts["previous_etag"], DecodedState(facts["account"], state))


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
