"""From the CDN's bytes to a resolver state: decrypt, decode, and refuse what cannot be one.

Nobody behind this needs the clients' secrets, only their SHA-256: it takes their place here, so that a state can be
shown, kept and compiled again without being a secret itself.

Source: `ClientResolverState` (CDN payload); the encrypted form is AES-256-GCM, nonce (12 bytes) || ciphertext || tag.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError as ProtobufDecodeError

from flagedge.errors import DecodeError
from flagedge.settings import Secret
from flagedge.wire import state_pb2

_NONCE_BYTES = 12
_TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class DecodedState:
    """A resolver state and the account it belongs to (bare id); each client secret is its `digest_secret`."""

    account: str
    resolver_state: state_pb2.ResolverState = field(repr=False)


def digest_secret(secret: str) -> str:
    """What stands for a client secret in a decoded state and in the plan."""
    return hashlib.sha256(secret.encode()).hexdigest()


NO_SECRET = digest_secret("")


def decrypt_state(data: bytes, key_hex: Secret) -> bytes:
    """Open an encrypted state. Raises DecodeError when the key is wrong or the bytes were changed."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 (slow to import, and most runs need no key)
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    if len(data) < _NONCE_BYTES + _TAG_BYTES:
        raise DecodeError(
            f"the encrypted state is only {len(data)} bytes long",
            hint="The download was cut short or is not a state; check the state URL",
        )
    try:
        return AESGCM(bytes.fromhex(key_hex.reveal())).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
    except InvalidTag as error:
        raise DecodeError(
            "the state does not open with STATE_ENCRYPTION_KEY",
            hint="Check that the key belongs to this client, or that the state was not truncated",
        ) from error


def decode_state(data: bytes) -> DecodedState:
    """Decode a ClientResolverState. Raises DecodeError for anything that is not a usable one."""
    if not data:
        raise DecodeError("the state is empty", hint="Check the state URL")
    try:
        envelope = state_pb2.ClientResolverState.FromString(data)
        state = state_pb2.ResolverState.FromString(envelope.state)
    except (ProtobufDecodeError, UnicodeDecodeError) as error:
        # Asked only now: a state of 60 bytes begins with a line feed and `<`, too.
        if data.lstrip()[:1] == b"<":
            raise DecodeError(
                "the state is an HTML or XML page, not a resolver state",
                hint="A proxy or an error page answered; check the state URL",
            ) from error
        raise DecodeError(
            "the state is not a ClientResolverState message",
            hint="It is truncated, encrypted (set STATE_ENCRYPTION_KEY) or something else",
        ) from error
    if not envelope.account or not envelope.state:
        raise DecodeError(
            "the state names no account or holds no flags",
            hint="It is encrypted (set STATE_ENCRYPTION_KEY) or not a ClientResolverState",
        )
    for credential in state.client_credentials:
        if credential.HasField("client_secret"):
            credential.client_secret.secret = digest_secret(credential.client_secret.secret)
    return DecodedState(envelope.account, state)
