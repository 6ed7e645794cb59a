"""What was put aside is tried again: rejected messages become rows once they can be read, parked ones go out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deliveries import ask
from messages import body, busy_request, decided, request

from log_consumer import load
from log_consumer.cli import main
from log_consumer.load import Loaded
from log_consumer.redrive import redrive
from log_consumer.store import Store

Deliver = Callable[..., Loaded]


def reject(store: Store, *bodies: str, content_type: str = "text") -> None:
    """Put bodies aside as an older version did, for a reason of its own."""
    with store.transaction() as connection:
        for number, each in enumerate(bodies):
            connection.execute(
                "insert into rejected_messages values ($1, $2, $3, 'unknown format', 1, '2026-01-01', '2026-01-01')",
                [f"{number:032x}", each, content_type],
            )


def test_what_can_be_read_by_now_is_loaded(store: Store) -> None:
    """Rows come in, the message leaves; what is still poison stays as it was."""
    reject(store, body(request(decided(unit="a")), seq=1), "poison", body(request(decided(unit="b")), seq=2))
    redriven = redrive(store, fills_outbox=False)
    assert (redriven.loaded_count, redriven.reasons) == (2, {"not JSON": 1})
    assert ask(store, "select targeting_key from exposures order by all") == [("a",), ("b",)]
    assert ask(store, "select body, reason from rejected_messages") == [("poison", "unknown format")]
    assert redrive(store, fills_outbox=False).loaded_count == 0
    assert ask(store, "select count(*) from exposures") == [(2,)]


def test_a_dry_run_only_tells(store: Store) -> None:
    reject(store, body(), "poison")
    redriven = redrive(store, fills_outbox=False, dry_run=True)
    assert (redriven.loaded_count, redriven.reasons) == (1, {"not JSON": 1})
    assert ask(store, "select (select count(*) from rejected_messages), count(*) from ledger") == [(2, 0)]


def test_what_landed_meanwhile_lands_once(deliver: Deliver, store: Store) -> None:
    deliver(body())
    reject(store, body())
    redriven = redrive(store, fills_outbox=False)
    assert (redriven.loaded_count, redriven.duplicate_count) == (0, 1)
    assert ask(store, "select (select count(*) from exposures), count(*) from rejected_messages") == [(1, 0)]


def test_more_than_a_batch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poison between them does not hold the others up."""
    monkeypatch.setattr("log_consumer.redrive.BATCH_ROWS", 3)
    bodies = [body(busy_request(seq), seq=seq) if seq % 4 else "poison" for seq in range(11)]
    reject(store, *bodies)
    redriven = redrive(store, fills_outbox=True)
    assert (redriven.loaded_count, redriven.rejected_count) == (8, 3)
    assert ask(store, "select count(*) from outbox") == [(8,)]


def test_a_crash_loses_and_doubles_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message leaves rejected_messages with its rows' commit, or not at all."""
    reject(store, body())

    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(load, "_verify", crash)
        with pytest.raises(RuntimeError):
            redrive(store, fills_outbox=False)
    assert ask(store, "select (select count(*) from rejected_messages), count(*) from exposures") == [(1, 0)]
    assert redrive(store, fills_outbox=False).loaded_count == 1


def test_parked_messages_wait_again(deliver: Deliver, store: Store) -> None:
    deliver(body())
    with store.transaction() as connection:
        connection.execute(
            "insert into outbox by name select 'i' as isolate, 0 as seq, '2026-01-01' as landed_at, '{}' as text, "
            "8 as refused_count, '2026-01-02' as parked_at"
        )
    assert redrive(store, fills_outbox=True, dry_run=True).unparked_count == 1
    assert redrive(store, fills_outbox=True).unparked_count == 1
    assert ask(store, "select refused_count, parked_at from outbox") == [(0, None)]


def test_the_command(
    store: Store, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reject(store, body(), "poison")
    monkeypatch.setenv("DATABASE", database)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "token")
    assert main(["redrive", "--dry-run"]) == 0
    assert capsys.readouterr().out == ("1 rejected messages could be loaded, 1 stay rejected\n  1: not JSON\n")
    assert main(["redrive", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "loaded_count": 1,
        "duplicate_count": 0,
        "rejected_count": 1,
        "unparked_count": 0,
        "reasons": {"not JSON": 1},
    }
    assert Path(database).exists()
