"""What must be true of a decoded state before it may replace the live one.

A state that is unusual but resolves exactly as the official resolver would is accepted; where an operator would want
to know, with a note. Refused is what the Worker would understand in part only, or what makes the official resolver fail:

  new      a field that this version does not know in a message that decides something (flags, segments, bitsets, bloom
           filters and all below them), an unknown flag state or bloom filter strategy. The official resolver skips
           what it does not know; a newer Confidence may mean something by it.
  damaged  what Confidence's own API would not have let pass, and the official resolver errs or fails to load on.
  foreign  a state without the client that it was fetched for, or of another account.

Only what can be asked for counts: active flags that a credential sees, their enabled rules, the segments behind those,
and the criteria that their expressions name. Fields that no resolver reads (names, labels, times, identities) are
passed over where they are known to be such; on a message that decides nothing a new field is noted.
`findings.Finding` holds every decision. Source: resolver state, evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from google.protobuf import struct_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from flagedge.errors import DecodeError
from flagedge.settings import Secret
from flagedge.wire import state_pb2
from sync_job.bitsets import gunzip_strictly
from sync_job.decode import DecodedState
from sync_job.findings import (
    ISOLATE_MAX_BYTES,
    NAMES_MAX,
    REQUEST_FLAGS_MAX,
    WORKER_MAX_BYTES,
    Finding,
    Note,
    StateError,
    Verdict,
)
from sync_job.fragments import NotFiniteError, struct_json

if TYPE_CHECKING:
    from sync_job.assemble import Upload

UNREAD_FIELDS = {
    state_pb2.ResolverState.DESCRIPTOR.full_name: frozenset({8}),  # region
    # Times, labels, usage, description, identities; 18 is a name for people, in no published schema yet.
    state_pb2.Flag.DESCRIPTOR.full_name: frozenset({6, 7, 10, 11, 13, 14, 15, 16, 18}),
    state_pb2.Flag.Variant.DESCRIPTOR.full_name: frozenset({3, 4, 5, 8, 9, 10}),
    state_pb2.Flag.Rule.DESCRIPTOR.full_name: frozenset({4, 6, 7, 10, 14, 15}),
    # Allocation, state and bits (what counts of them comes as a bitset); then as above, and what made the segment.
    state_pb2.Segment.DESCRIPTOR.full_name: frozenset({3, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17}),
    state_pb2.Client.DESCRIPTOR.full_name: frozenset({2, 3, 4, 5, 6, 9, 10, 11}),
    state_pb2.ClientCredential.DESCRIPTOR.full_name: frozenset({2, 4, 5, 6, 7, 10, 11}),
}
"""By message, the fields that no resolver reads."""
_ALLOCATION = 3
_BLOOM_STRATEGY = 1  # MURMUR128_MITZ_64
# Measured in workerd's heap, all flags in use: 2.8 to 4.1 bytes live and up to 5.5 held for a byte of the plan's text.
_HEAP_PER_TEXT_BYTE = 5
_HEAP_BASE_BYTES = 5_000_000


def validate_state(
    decoded: DecodedState,
    *,
    client_secret: Secret,
    live_account: str = "",
    accept: Collection[Finding] = (),
    has_materializations: bool = True,
) -> tuple[Note, ...]:
    """Notes on a state that may be deployed. Raises StateError, with every reason, for one that may not. Pure.

    `client_secret` and `live_account` may be empty where they are not known. What is in `accept` is noted instead of
    refused: the account may then change, what is new is skipped, what is damaged makes its flag err, alone.
    `has_materializations` says whether sticky assignments are on.
    """
    found = Found()
    if live_account and decoded.account != live_account:
        found.add(Finding.ACCOUNT_CHANGED, f"{live_account} → {decoded.account}")
    state = decoded.resolver_state
    seeing = _check_clients(state, client_secret, found)
    walk = _Walk(state, found, has_materializations=has_materializations)
    walk.check_flags(seeing)
    walk.check_segments()
    _check_bitsets(state, walk.used, found)
    return found.judge(accept)


def check_upload_size(upload: Upload, *, accept: Collection[Finding] = ()) -> tuple[Note, ...]:
    """Notes on an upload that takes more than half of what the platform has. Raises StateError where it has too little.

    An isolate holds the plan's text parsed, several times its size, and every data module in full; an isolate that is
    more than half full has no room for a second plan while one replaces the other.
    """
    found = Found()
    texts = sum(len(module.content) for module in upload.modules if module.content_type == "text/plain")
    heap_bytes = _HEAP_BASE_BYTES + upload.size_bytes + (_HEAP_PER_TEXT_BYTE - 1) * texts
    for size_bytes, most_bytes, too_large, large in (
        (upload.size_bytes, WORKER_MAX_BYTES, Finding.WORKER_TOO_LARGE, Finding.WORKER_LARGE),
        (heap_bytes, ISOLATE_MAX_BYTES, Finding.ISOLATE_TOO_LARGE, Finding.ISOLATE_LARGE),
    ):
        if 2 * size_bytes > most_bytes:
            found.add(too_large if size_bytes > most_bytes else large, f"{size_bytes} bytes")
    return found.judge(accept)


class Found:
    """What was found, in order of first sight; a name counts once per finding."""

    def __init__(self) -> None:
        self._names: dict[Finding, dict[str, None]] = {}

    def add(self, finding: Finding, name: str = "") -> None:
        self._names.setdefault(finding, {})[name] = None

    def judge(self, accept: Collection[Finding]) -> tuple[Note, ...]:
        """The notes. Raises StateError when anything is refused that is not accepted."""
        notes = [
            Note(finding, tuple(name for name in list(names)[:NAMES_MAX] if name), len(names))
            for finding, names in self._names.items()
        ]
        refused = [note for note in notes if _is_refused(note.finding, accept)]
        if refused:
            raise StateError(refused)
        return tuple(notes)


def _is_refused(finding: Finding, accept: Collection[Finding]) -> bool:
    return finding.verdict is Verdict.UNUSABLE or (finding.verdict is Verdict.REFUSED and finding not in accept)


# Clients


def _check_clients(state: state_pb2.ResolverState, client_secret: Secret, found: Found) -> set[str]:
    """The names of the clients that have a secret."""
    _note_twice((client.name for client in state.clients), found)
    _note_new_fields(state, "the state", found)
    owners: dict[str, tuple[str, str]] = {}
    for client in state.clients:
        _note_new_fields(client, client.name, found)
        if any(_holds_odd_number(value) for value in client.managed_context.values()):
            found.add(Finding.CONTEXT_NOT_FINITE, client.name)
        for credential in state.client_credentials:
            if not credential.name.startswith(client.name + "/") or not credential.HasField("client_secret"):
                continue
            secret = credential.client_secret.secret
            if secret in owners:
                found.add(Finding.SECRET_TWICE, f"{owners[secret][1]} ({credential.name})")
            owners[secret] = (client.name, credential.name)
    claimed = {credential for _, credential in owners.values()}
    for credential in state.client_credentials:
        _note_new_fields(credential, credential.name, found)
        if not credential.HasField("client_secret"):
            continue
        if not credential.client_secret.secret:
            found.add(Finding.SECRET_EMPTY, credential.name)
        elif credential.name not in claimed and credential.client_secret.secret not in owners:
            found.add(Finding.CREDENTIAL_LOST, credential.name)
    if not any(owners):
        found.add(Finding.NO_SECRET)
    elif client_secret and client_secret.reveal() not in owners:
        found.add(Finding.SECRET_UNKNOWN)
    return {client for client, _ in owners.values()}


def _note_new_fields(message: Message, name: str, found: Found) -> None:
    for field in _new_fields(message):
        found.add(Finding.FIELD_UNREAD, f"{name}: {field}")


def _note_twice(names: Iterable[str], found: Found) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            found.add(Finding.NAME_TWICE, name)
