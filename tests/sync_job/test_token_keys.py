"""The keys of apply tokens: which are bound, which seals, which may go."""

from __future__ import annotations

import base64

import pytest

from flagedge.settings import Secret
from sync_job.token import key_id as token_key_id
from sync_job.token_keys import (
    FIRST_NAME,
    TokenKey,
    TokenKeyError,
    choose_keys,
    find_retirable,
    key_id,
    read_keys,
    write_keys,
)

NONE = Secret("")
ONE, OTHER = (Secret(base64.b64encode(bytes([byte]) * 16).decode()) for byte in (1, 2))
OLD = TokenKey(FIRST_NAME, "aaaaaaaa", 100)
NEW = TokenKey(f"{FIRST_NAME}_bbbbbbbb", "bbbbbbbb", 1000)


def test_key_id_is_the_one_that_a_token_carries() -> None:
    """What `keys list` shows can be found in the tokens."""
    assert key_id(ONE) == token_key_id(bytes([1]) * 16).hex()


def test_a_worker_without_a_key_gets_one() -> None:
    """The first key has the official deployer's name, and is random."""
    changes = [choose_keys([], given=NONE, rotate=False, now_s=7) for _ in range(2)]
    assert [list(change.bound) for change in changes] == [[FIRST_NAME]] * 2
    assert changes[0].keys[0].since_s == 7
    assert changes[0].bound != changes[1].bound


def test_a_key_that_is_there_is_left_alone() -> None:
    """A plain run binds nothing anew."""
    change = choose_keys([OLD, NEW], given=NONE, rotate=False, now_s=2000)
    assert (change.keys, change.bound) == ((OLD, NEW), {})


def test_rotation_adds_a_key_that_seals() -> None:
    """The fresh key comes last and has its id in its secret's name; the old one is not bound anew."""
    change = choose_keys([OLD], given=NONE, rotate=True, now_s=2000)
    [name] = change.bound
    assert change.keys[0] == OLD
    assert change.keys[-1].name == name == f"{FIRST_NAME}_{change.keys[-1].kid}"


def test_a_given_key_is_bound_beside_another() -> None:
    """An operator's new key seals, and does not take the place of the one that tokens in flight need."""
    first = choose_keys([], given=ONE, rotate=False, now_s=1)
    assert first.bound == {FIRST_NAME: ONE}
    second = choose_keys(first.keys, given=OTHER, rotate=False, now_s=2)
    assert second.bound == {f"{FIRST_NAME}_{key_id(OTHER)}": OTHER}
    assert [key.kid for key in second.keys] == [key_id(ONE), key_id(OTHER)]


def test_a_given_key_that_is_known_stays_where_it_is() -> None:
    """The same key run after run changes nothing; going back to an older one makes that one seal."""
    first = choose_keys([], given=ONE, rotate=False, now_s=1)
    assert choose_keys(first.keys, given=ONE, rotate=False, now_s=2).keys == first.keys
    both = choose_keys(first.keys, given=OTHER, rotate=False, now_s=3)
    back = choose_keys(both.keys, given=ONE, rotate=False, now_s=4)
    assert [key.kid for key in back.keys] == [key_id(OTHER), key_id(ONE)]
    assert back.bound == {FIRST_NAME: ONE}


def test_a_key_that_somebody_else_bound_comes_first() -> None:
    """Secrets without a record were there before us; records without a secret are of keys that are gone."""
    record = write_keys([OLD, NEW])
    assert read_keys(record, {OLD.name, NEW.name, "OTHER_SECRET"}) == (OLD, NEW)
    assert read_keys("", {FIRST_NAME}) == (TokenKey(FIRST_NAME),)
    assert read_keys(record, {NEW.name}) == (NEW,)
    assert read_keys("{broken", {FIRST_NAME}) == (TokenKey(FIRST_NAME),)


@pytest.mark.parametrize(
    ("which", "now_s", "says"),
    [
        ("cccccccc", 9999, "no token key cccccccc"),
        ("", 9999, "no token key"),
        (NEW.kid, 9999, "the one that seals"),
        (OLD.kid, 1000 + 59, "may still be in use"),
    ],
)
def test_a_key_that_may_be_needed_is_not_retired(which: str, now_s: int, says: str) -> None:
    """Unknown, sealing, or superseded for less than a token's life."""
    with pytest.raises(TokenKeyError, match=says):
        find_retirable([OLD, NEW], which, ttl_s=60, now_s=now_s, force=False)


def test_a_key_is_retired_when_its_tokens_are_dead() -> None:
    """By id or by name; before its time only by force."""
    assert find_retirable([OLD, NEW], OLD.kid, ttl_s=60, now_s=1060, force=False) == OLD
    assert find_retirable([OLD, NEW], OLD.name, ttl_s=60, now_s=1001, force=True) == OLD
