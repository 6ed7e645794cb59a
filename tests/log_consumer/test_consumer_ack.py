"""Acks: in calls of a hundred, and none is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from flagedge.errors import UnavailableError
from log_consumer.ack import Acker


def test_every_lease_is_acked_once_a_hundred_a_call() -> None:
    """All calls are answered when the block ends."""
    calls: list[list[str]] = []
    with Acker(lambda leases: calls.append(list(leases)), max_concurrent=4) as acker:
        acker.ack([f"a{number}" for number in range(250)])
        acker.ack([])
        acker.ack(["b"])
    assert sorted(map(len, calls)) == [1, 50, 100, 100]
    assert {lease for leases in calls for lease in leases} == {f"a{number}" for number in range(250)} | {"b"}


def fail(leases: Sequence[str]) -> None:
    raise UnavailableError("no answer to the ack")


def test_a_failed_ack_is_raised_with_the_next_batch() -> None:
    """A queue that takes no acks is not pulled for ever."""
    acker = Acker(fail, max_concurrent=1)
    acker.ack(["lease"])
    with pytest.raises(UnavailableError):
        acker.ack(["another"])


def test_the_last_failed_ack_is_raised_at_the_end() -> None:
    """The run fails, for its messages come again."""
    acker = Acker(fail, max_concurrent=1)
    acker.ack(["lease"])
    with pytest.raises(UnavailableError):
        acker.__exit__(None, None, None)


def test_a_failed_ack_does_not_hide_what_went_wrong_before() -> None:
    """The error that ends the block is the one that is told."""
    acker = Acker(fail, max_concurrent=1)
    acker.ack(["lease"])
    acker.__exit__(ValueError, ValueError("first"), None)


def test_acks_of_a_batch_run_side_by_side() -> None:
    """Calls wait for the network together."""
    together = threading.Barrier(3, timeout=10)
    with Acker(lambda leases: together.wait(), max_concurrent=3) as acker:
        acker.ack([str(number) for number in range(300)])
