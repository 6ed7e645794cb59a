"""Decoding a state: what is none is refused with its reason."""

from __future__ import annotations

import pytest
import shop
from builders import encrypt_payload, payload, state
from hypothesis import given
from hypothesis import strategies as st

from flagedge.errors import DecodeError
from flagedge.settings import Secret
from flagedge.wire.state_pb2 import ClientResolverState
from sync_job.decode import decode_state, decrypt_state, digest_secret

KEY = "ab" * 32


def test_state_and_account() -> None:
    """A state is decoded with the account that it belongs to."""
    decoded = decode_state(shop.shop_payload())
    assert decoded.account == shop.ACCOUNT
    assert len(decoded.resolver_state.flags) == 6


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"<!doctype html><html></html>", "is an HTML or XML page"),
        (b"\n\n  <html>502 Bad Gateway</html>", "is an HTML or XML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is an HTML or XML page"),
        (b'{"error": "not found"}', "not a ClientResolverState"),
        (b"upstream connect error or disconnect/reset before headers", "not a ClientResolverState"),
        (b"\x1f\x8b\x08\x00" + bytes(40), "not a ClientResolverState"),
        (payload(state(), account=""), "names no account"),
        (ClientResolverState(account="a").SerializeToString(), "holds no flags"),
    ],
)
def test_what_is_no_state(data: bytes, says: str) -> None:
    """Nothing, pages, JSON, text, gzip, and an envelope with half of its content: each is told for what it is."""
    with pytest.raises(DecodeError, match=says):
        decode_state(data)


@given(st.integers(0, len(shop.shop_payload()) - 1))
def test_truncated(length: int) -> None:
    """A state that was cut short anywhere is refused; only its log destinations, which come last, may be missing."""
    whole = shop.shop_payload()
    without_destinations = len(payload(decode_state(whole).resolver_state, shop.ACCOUNT))
    if length == without_destinations:
        assert decode_state(whole[:length]) == decode_state(whole)
    else:
        with pytest.raises(DecodeError):
            decode_state(whole[:length])


def test_a_page_is_told_by_its_failure_to_decode() -> None:
    """A state of 60 bytes begins with a line feed and `<`, as its length is that character."""
    built = state()
    built.clients[0].name = "clients/" + "c" * (60 - len(built.SerializeToString()) + 1)
    data = payload(built)
    assert data.startswith(b"\n<")
    assert decode_state(data).resolver_state.clients == built.clients


def test_decrypt() -> None:
    """A state is opened with its key, and a changed or truncated one is refused without showing the key."""
    data = encrypt_payload(shop.shop_payload(), KEY)
    assert decrypt_state(data, Secret(KEY)) == shop.shop_payload()
    for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), data[:27], b""):
        with pytest.raises(DecodeError) as caught:
            decrypt_state(damaged, Secret(KEY))
        assert KEY not in str(caught.value)


def test_a_decoded_state_holds_no_secret() -> None:
    """A client secret is replaced by its SHA-256, by which the plan knows the client."""
    decoded = decode_state(shop.shop_payload())
    assert shop.WEB_SECRET.encode() not in decoded.resolver_state.SerializeToString()
    digests = {each.client_secret.secret for each in decoded.resolver_state.client_credentials}
    assert digests == {digest_secret(shop.WEB_SECRET), digest_secret(shop.MOBILE_SECRET)}
