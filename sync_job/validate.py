"""What must be true of a decoded state before it may replace the live one.

A state that is unusual but resolves exactly as the official resolver would is accepted; where an operator would want
to know, with a note. Refused is what the Worker would understand in part only, and what the official resolver fails on:

  new      a field that this version does not know in a message that decides something (flags, segments, bitsets, bloom
           filters and all below them), an unknown flag state or bloom filter strategy. The official resolver skips
           what it does not know; a newer Confidence may mean something by it.
  damaged  what Confidence's own API would not have let pass, and the official resolver errs or fails to load on.
  foreign  a state without the client that it was fetched for, or of another account.

Only what can be asked for counts: active flags that a credential sees, their enabled rules, the segments behind those,
and the criteria that their expressions name. Fields that no resolver reads (names, labels, times, identities) are
passed over where they are known to be such; on a message that decides nothing a new field is noted.
`findings.Finding` is the table of all decisions. Source: resolver state, evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from flagedge.settings import Secret
from flagedge.wire import state_pb2
from sync_job.decode import NO_SECRET, DecodedState, digest_secret
from sync_job.fields import new_fields
from sync_job.findings import Finding, Found, Note
from sync_job.fragments import has_infinity
from sync_job.validate_flags import check_flags
from sync_job.validate_segments import check_segments


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
    seeing = _check_clients(decoded.resolver_state, client_secret, found)
    _check_names(decoded.resolver_state, found)
    asking = check_flags(decoded.resolver_state, seeing, found, has_materializations=has_materializations)
    check_segments(decoded.resolver_state, asking, found, has_materializations=has_materializations)
    return found.judge(accept)


def _check_names(state: state_pb2.ResolverState, found: Found) -> None:
    for things in (state.flags, state.segments_no_bitsets, state.clients):
        for name, count in Counter(thing.name for thing in things).items():
            if count > 1:
                found.add(Finding.NAME_TWICE, name)


def _check_clients(state: state_pb2.ResolverState, client_secret: Secret, found: Found) -> set[str]:
    """Check clients and credentials; the names of the clients that have a secret."""
    for client in state.clients:
        if has_infinity(client, client.managed_context):
            found.add(Finding.CONTEXT_NOT_FINITE, client.name)
    for message in (state, *state.clients, *state.client_credentials):
        for field in new_fields(message):
            found.add(Finding.FIELD_UNREAD, field)
    owners = _secret_owners(state, found)
    if not any(owners):
        found.add(Finding.SECRET_MISSING)
    elif client_secret and digest_secret(client_secret.reveal()) not in owners:
        found.add(Finding.SECRET_UNKNOWN)
    return {client for client, _ in owners.values()}


def _secret_owners(state: state_pb2.ResolverState, found: Found) -> dict[str, tuple[str, str]]:
    """Client and credential by digest of a secret; a later credential takes a secret from an earlier one."""
    owners: dict[str, tuple[str, str]] = {}
    secrets = [credential for credential in state.client_credentials if credential.HasField("client_secret")]
    for client in state.clients:
        for credential in secrets:
            if credential.name.startswith(client.name + "/"):
                secret, owner = credential.client_secret.secret, (client.name, credential.name)
                if owners.get(secret, owner) != owner:
                    found.add(Finding.SECRET_TWICE, f"{owners[secret][1]} ({credential.name})")
                owners[secret] = owner
    clients = {client.name for client in state.clients}
    for credential in secrets:
        if credential.client_secret.secret == NO_SECRET:
            found.add(Finding.SECRET_EMPTY, credential.name)
        if "/".join(credential.name.split("/")[:2]) not in clients:
            found.add(Finding.CREDENTIAL_LOST, credential.name)
    return owners
