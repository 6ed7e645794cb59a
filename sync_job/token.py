"""Apply tokens, the Python twin of worker/src/token.ts: for tests, support and key tooling.

Ours: version 1 (1 byte) | key id (4) | salt (16) | counter (4) | AES-128-GCM(issued u32 | expires u32 | body), tag
included. The cipher key is HKDF-SHA-256(key, salt, "flagedge token 1"), the nonce the counter in 12 bytes; header,
account and client are authenticated. Upstream's: IV (16) | AES-128-CBC(body), PKCS #7. The body is a
`ResolveToken` message.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from google.protobuf.message import DecodeError as ProtobufDecodeError

from flagedge.errors import DecodeError
from flagedge.wire import token_pb2

VERSION = 1
_HEADER = struct.Struct(">B4s16sI")
_INFO = b"flagedge token 1"
_BLOCK_BYTES = 16


@dataclass(frozen=True, slots=True)
class OpenedToken:
    """An opened token; `issued_at_s` and `expires_at_s` are 0 for upstream's, which say neither."""

    body: token_pb2.ResolveTokenV1
    issued_at_s: int = 0
    expires_at_s: int = 0


def key_id(key: bytes) -> bytes:
    """The four bytes by which a token names its key: the beginning of the key's SHA-256."""
    return hashlib.sha256(key).digest()[:4]


def seal_token(
    body: token_pb2.ResolveTokenV1, key: bytes, *, account: str, client: str, issued_at_s: int, ttl_s: int
) -> bytes:
    """Seal as the Worker does by default; every call uses a fresh salt."""
    header = _HEADER.pack(VERSION, key_id(key), secrets.token_bytes(16), 0)
    content = struct.pack(">II", issued_at_s, issued_at_s + ttl_s) + _wrap(body)
    return header + _cipher(key, header).encrypt(_nonce(header), content, header + _binding(account, client))


def seal_upstream_token(body: token_pb2.ResolveTokenV1, key: bytes, *, iv: bytes | None = None) -> bytes:
    """Seal as the official Worker does."""
    iv = iv or secrets.token_bytes(_BLOCK_BYTES)
    padder = padding.PKCS7(128).padder()
    plain = padder.update(_wrap(body)) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return iv + encryptor.update(plain) + encryptor.finalize()


def open_token(token: bytes, key: bytes, *, account: str, client: str) -> OpenedToken:
    """Open either form; expiry is told, not enforced. Raises DecodeError, the same for every reason."""
    opened = _open_ours(token, key, account, client) or _open_upstream(token, key)
    if opened is None:
        raise DecodeError("the token does not open", hint="Wrong key, account or client, or it was changed")
    return opened


def _open_ours(token: bytes, key: bytes, account: str, client: str) -> OpenedToken | None:
    header = token[: _HEADER.size]
    if len(header) < _HEADER.size or header[:5] != bytes([VERSION]) + key_id(key):
        return None
    try:
        content = _cipher(key, header).decrypt(
            _nonce(header), token[_HEADER.size :], header + _binding(account, client)
        )
    except InvalidTag:
        return None
    body = _unwrap(content[8:])
    return None if body is None else OpenedToken(body, *struct.unpack(">II", content[:8]))


def _open_upstream(token: bytes, key: bytes) -> OpenedToken | None:
    if len(token) < 2 * _BLOCK_BYTES or len(token) % _BLOCK_BYTES:
        return None
    decryptor = Cipher(algorithms.AES(key), modes.CBC(token[:_BLOCK_BYTES])).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    try:
        plain = unpadder.update(decryptor.update(token[_BLOCK_BYTES:]) + decryptor.finalize()) + unpadder.finalize()
    except ValueError:
        return None
    body = _unwrap(plain)
    return None if body is None else OpenedToken(body)


def _wrap(body: token_pb2.ResolveTokenV1) -> bytes:
    return token_pb2.ResolveToken(token_v1=body).SerializeToString(deterministic=True)


def _unwrap(data: bytes) -> token_pb2.ResolveTokenV1 | None:
    try:
        token = token_pb2.ResolveToken.FromString(data)
    except ProtobufDecodeError:
        return None
    return token.token_v1 if token.HasField("token_v1") else None


def _cipher(key: bytes, header: bytes) -> AESGCM:
    return AESGCM(HKDF(hashes.SHA256(), 16, header[5:21], _INFO).derive(key))


def _nonce(header: bytes) -> bytes:
    return bytes(8) + header[21:25]


def _binding(account: str, client: str) -> bytes:
    return f"{account}\n{client}".encode()
