"""What the tables hold of a targeting key is what the policy says, and the hash is HMAC-SHA-256."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deliveries import NOW, ask
from fake_queue import QUEUE_ID, FakeQueue
from messages import Fallthrough, body, decided, no_match, request

from flagedge.errors import LocalError, SettingsError
from flagedge.settings import Secret
from log_consumer.cli import main
from log_consumer.databases import Lake
from log_consumer.job import run
from log_consumer.load import decode, load, make_stage
from log_consumer.privacy import KeyPolicy
from log_consumer.redrive import redrive
from log_consumer.settings import ForwardSettings, Settings, read_settings
from log_consumer.store import Store

KEY = bytes(range(200, 232))
ENCODED = base64.b64encode(KEY).decode()
HASHING = KeyPolicy("hmac", Secret(ENCODED))
AWKWARD = ["", "a", "visitor-17", "å漢🦊", "nul\0inside", 'it\'s \\ "quoted"', "x" * 55, "x" * 56, "x" * 10_000]
UPSTREAM = {
    "flagAssigned": [
        {
            "resolveId": "F9JOaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "flags": [
                {
                    "flag": "flags/a",
                    "targetingKey": unit,
                    "rule": "flags/a/rules/r",
                    "assignmentInfo": {"segment": "segments/s", "variant": "flags/a/variants/on"},
                    "fallthroughAssignments": [{"rule": "flags/a/rules/holdout", "targetingKey": unit}],
                }
                for unit in AWKWARD
            ],
        }
    ]
}
OURS = body(
    *(
        request(decided(unit=unit, fallthroughs=(Fallthrough(unit=unit),)), resolve_id=f"{number:032x}")
        for number, unit in enumerate(AWKWARD)
    ),
    request(no_match()),
)


def load_under(policy: KeyPolicy, store: Store, *bodies: str, keeps_text: bool = False) -> None:
    make_stage(store.connection, policy)
    text = FakeQueue(*bodies).pull_messages(QUEUE_ID, visibility_timeout_ms=1000)
    batch = decode(store.connection, [text], now=NOW, keeps_text=keeps_text)
    with store.transaction() as connection:
        load(connection, batch, is_lake=store.is_lake, fills_outbox=keeps_text)


def stored(store: Store, table: str) -> list[Any]:
    return [unit for (unit,) in ask(store, f"select targeting_key from {table} order by rowid")]


def hashed(unit: str) -> str:
    return hmac.new(KEY, unit.encode(), sha256).hexdigest()


# --- what is stored --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "none"),
    [(OURS, lambda unit: False), (json.dumps(UPSTREAM), lambda unit: unit == "")],
    ids=["ours", "upstream"],
)
def test_the_hash_is_hmac_sha_256(store: Store, message: str, none: Any) -> None:
    """As Python makes it, in both tables and of both forms; where there was no unit, there is none."""
    load_under(HASHING, store, message)
    expected = [None if none(unit) else hashed(unit) for unit in AWKWARD]
    assert stored(store, "exposures")[: len(AWKWARD)] == expected
    assert stored(store, "fallthrough_exposures") == expected
    assert set(stored(store, "exposures")[len(AWKWARD) :]) <= {None}


@pytest.mark.parametrize("message", [OURS, json.dumps(UPSTREAM)], ids=["ours", "upstream"])
def test_drop_stores_none(store: Store, message: str) -> None:
    """The rows are there, and what else they say."""
    load_under(KeyPolicy("drop"), store, message)
    assert set(stored(store, "exposures")) == {None}
    assert set(stored(store, "fallthrough_exposures")) == {None}
    assert ask(store, "select count(*) from exposures where variant is not null") == [(len(AWKWARD),)]


def test_plain_stores_the_unit(store: Store) -> None:
    load_under(KeyPolicy(), store, OURS)
    assert stored(store, "exposures") == [*AWKWARD, None]


def test_a_lake_holds_the_same_hashes(lake: Lake) -> None:
    with Store(lake) as store:
        load_under(HASHING, store, OURS)
        assert {unit for (unit,) in ask(store, "select targeting_key from exposures")} == {
            *map(hashed, AWKWARD),
            None,
        }


def test_a_vector_of_the_standard(store: Store) -> None:
    """RFC 4231, test case 1, whose key is padded with zeros to ours."""
    key = (b"\x0b" * 20).ljust(32, b"\0")
    policy = KeyPolicy("hmac", Secret(base64.b64encode(key).decode()))
    make_stage(store.connection, policy)
    expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert store.connection.execute("select stored_unit('Hi There')").fetchall() == [(expected,)]
    assert policy.hash_unit("Hi There") == expected


def test_forwarding_and_rejected_messages_keep_the_unit(store: Store) -> None:
    """Confidence needs it, and what cannot be read cannot be hashed."""
    load_under(HASHING, store, OURS, "poison of visitor-17", keeps_text=True)
    assert ask(store, "select text from outbox") == [(OURS,)]
    assert ask(store, "select body from rejected_messages") == [("poison of visitor-17",)]


def test_what_is_redriven_follows_the_policy(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute(
            "insert into rejected_messages values ('1', $1, 'text', 'unknown format', 1, '2026-01-01', '2026-01-01')",
            [body(request(decided(unit="visitor-17")))],
        )
    redrive(store, fills_outbox=False, policy=HASHING)
    assert stored(store, "exposures") == [hashed("visitor-17")]


def test_policies_may_follow_each_other(store: Store) -> None:
    """Earlier rows stay as they were, so one unit counts as two over the change."""
    for seq, policy in enumerate((KeyPolicy(), HASHING, KeyPolicy("drop"))):
        load_under(policy, store, body(request(decided(unit="visitor-17")), seq=seq))
    assert stored(store, "exposures") == ["visitor-17", hashed("visitor-17"), None]


# --- the key ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hashing(settings: Settings) -> Settings:
    return replace(settings, key_policy=HASHING)


def other_key() -> KeyPolicy:
    return KeyPolicy("hmac", Secret(base64.b64encode(b"another key, of just 32 bytes ..").decode()))


def rows(database: Any, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_another_key_is_refused_before_anything_is_pulled(hashing: Settings) -> None:
    """Exit 2, with the way out; the right key goes on."""
    run(hashing, FakeQueue(body(seq=0)))
    queue = FakeQueue(body(seq=1))
    with pytest.raises(SettingsError, match=r"TARGETING_KEY_HASH_KEY is not the key .*accept-key") as caught:
        run(replace(hashing, key_policy=other_key()), queue)
    assert ENCODED not in str(caught.value)
    assert queue.pull_count == 0
    assert run(hashing, queue).loaded_count == 1
    assert rows(hashing.database, "select count(*) from hash_keys") == [(1,)]


def test_plain_leaves_no_trace_of_a_key(settings: Settings) -> None:
    run(replace(settings, key_policy=KeyPolicy("plain", Secret(ENCODED))), FakeQueue(body()))
    assert rows(settings.database, "select count(*) from hash_keys") == [(0,)]


def test_what_a_key_is_known_by_is_not_the_key(hashing: Settings) -> None:
    run(hashing, FakeQueue(body()))
    content = Path(str(hashing.database)).read_bytes()
    assert KEY not in content
    assert ENCODED.encode() not in content


def test_forwarded_messages_hold_the_unit(hashing: Settings) -> None:
    """The outbox is filled although nobody was there to forward."""
    forward = ForwardSettings(
        destinations=("edge",), client_secret=Secret("s"), edge_url="http://127.0.0.1:9", timeout_ms=100
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("log_consumer.job.FORWARD_PATIENCE_S", 0.0)
        run(replace(hashing, forward=forward), FakeQueue(body()))
    ((text,),) = rows(hashing.database, "select text from outbox")
    assert json.loads(text)["units"] == ["visitor-17"]


def test_no_error_quotes_the_key(hashing: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that fails while it hashes, when no message is taken for the culprit."""
    monkeypatch.setattr("log_consumer.job.BLAMED_MAX", 0)
    with store.transaction() as connection:
        connection.execute("alter table exposures alter targeting_key type int using null")
    with pytest.raises(LocalError) as caught:
        run(hashing, FakeQueue(body()))
    said = str(caught.value)
    assert "INT32" in said
    assert "\\x" not in said
    assert ENCODED not in said + repr(hashing)


@pytest.fixture
def _environment(monkeypatch: pytest.MonkeyPatch, database: str) -> Iterator[None]:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "token")
    monkeypatch.setenv("DATABASE", database)
    monkeypatch.setenv("TARGETING_KEY_POLICY", "hmac")
    monkeypatch.setenv("TARGETING_KEY_HASH_KEY", ENCODED)
    return


@pytest.mark.usefixtures("_environment")
def test_accepting_a_key_is_a_command(
    hashing: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After it the key before is the one that is refused."""
    run(hashing, FakeQueue(body()))
    assert main(["accept-key"]) == 0
    assert "is the key in use already" in capsys.readouterr().out
    monkeypatch.setenv("TARGETING_KEY_HASH_KEY", other_key().hash_key.reveal())
    assert main(["accept-key"]) == 0
    assert run(replace(hashing, key_policy=other_key()), FakeQueue()).loaded_count == 0
    with pytest.raises(SettingsError):
        run(hashing, FakeQueue())
    monkeypatch.delenv("TARGETING_KEY_POLICY")
    monkeypatch.delenv("TARGETING_KEY_HASH_KEY")
    assert main(["accept-key"]) == 2
    assert "TARGETING_KEY_HASH_KEY" in capsys.readouterr().err


def test_settings_say_what_is_wrong_and_not_the_key() -> None:
    token = {"CLOUDFLARE_API_TOKEN": "token"}
    assert read_settings(token).key_policy == KeyPolicy()
    given = read_settings(token | {"TARGETING_KEY_POLICY": "hmac", "TARGETING_KEY_HASH_KEY": ENCODED})
    assert given.key_policy == HASHING
    wrong = [
        ({"TARGETING_KEY_POLICY": "hmac"}, "TARGETING_KEY_HASH_KEY is needed"),
        ({"TARGETING_KEY_POLICY": "md5"}, "TARGETING_KEY_POLICY must be one of plain, hmac, drop"),
        ({"TARGETING_KEY_HASH_KEY": "c2hvcnQ="}, "TARGETING_KEY_HASH_KEY must be base64 of 32 bytes"),
        ({"TARGETING_KEY_HASH_KEY": KEY.hex() + "!"}, "TARGETING_KEY_HASH_KEY must be base64 of 32 bytes"),
    ]
    for environ, problem in wrong:
        with pytest.raises(SettingsError, match=problem) as caught:
            read_settings(token | environ)
        assert "c2hvcnQ=" not in str(caught.value)
        assert KEY.hex() not in str(caught.value)
