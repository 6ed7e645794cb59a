"""A unit that is to be forgotten is nowhere afterwards, and everything else is as it was."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from deliveries import NOW, ask
from fake_queue import QUEUE_ID, FakeQueue
from messages import Fallthrough, body, decided, no_match, request
from postgres import Postgres
from structlog.testing import capture_logs

from flagedge.cloudflare import Cloudflare
from flagedge.errors import LocalError, SettingsError
from flagedge.settings import Secret
from local_edge.process import find_workerd
from local_edge.server import LocalEdge
from log_consumer.cli import main
from log_consumer.cut import cut_units, holds_unit
from log_consumer.databases import Lake
from log_consumer.forget import Forgotten, forget
from log_consumer.job import run
from log_consumer.load import decode, load, make_stage
from log_consumer.privacy import KeyPolicy, accept_key
from log_consumer.rebuild import read_message
from log_consumer.settings import ForwardSettings, Settings
from log_consumer.sticky import find_sticky_keys
from log_consumer.store import Store

# Nothing compresses it, so that a part of it is found wherever a part of it is.
UNIT = "unit-" + "".join(random.Random(7).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=160))
PART = UNIT[40:64].encode()
OTHER = "somebody-else"
FORWARDING = ForwardSettings(destinations=("edge",), client_secret=Secret("s"))
KEY = Secret(base64.b64encode(bytes(range(32))).decode())
ANALYSIS = (
    "select targeting_key, flag, variant, resolve_id, isolate, seq from exposures "
    "union all select targeting_key, flag, rule, resolve_id, isolate, seq from fallthrough_exposures order by all"
)


class Account(FakeQueue):
    """A queue, and no KV namespace."""

    def find_kv_namespace(self, title: str) -> str | None:
        return None

    def list_kv_keys(self, namespace_id: str, prefix: str) -> Iterator[str]:
        raise AssertionError("there is no namespace")

    def delete_kv_keys(self, namespace_id: str, keys: Any) -> None:
        raise AssertionError("there is no namespace")


def visit(unit: str, number: int, **changes: Any) -> Any:
    passed = (Fallthrough(unit=unit),)
    return request(decided(unit=unit, fallthroughs=passed), no_match(), resolve_id=f"{number:032x}", **changes)


def visits(*units: str, seq: int = 0, isolate: str = "of-all") -> str:
    return body(*(visit(unit, 100 * seq + number) for number, unit in enumerate(units)), seq=seq, isolate=isolate)


def upstream(*units: str, seq: int = 0) -> str:
    return read_message(visits(*units, seq=seq)).to_json().decode()


def land(store: Store, *bodies: str, waits: bool = True) -> None:
    make_stage(store.connection)
    text = FakeQueue(*bodies).pull_messages(QUEUE_ID, visibility_timeout_ms=1000)
    batch = decode(store.connection, [text], now=NOW, keeps_text=waits)
    with store.transaction() as connection:
        load(connection, batch, is_lake=store.is_lake, fills_outbox=waits)


def reject(store: Store, message_id: str, text: str, content_type: str = "text") -> None:
    with store.transaction() as connection:
        connection.execute(
            "insert into rejected_messages values ($1, $2, $3, 'unknown format', 1, '2026-01-01', '2026-01-01')",
            [message_id, text, content_type],
        )


def everything(store: Store) -> str:
    """All that the tables say."""
    names = ask(store, "select table_name from duckdb_tables() where database_name = 'store'")
    return "\n".join(repr(ask(store, f'from "{name}"')) for (name,) in names)


def fill(store: Store) -> None:
    """The unit beside others in everything that a database has."""
    land(store, visits(UNIT, OTHER), visits(OTHER, UNIT, "third", seq=1), upstream(OTHER, UNIT, seq=2))
    land(store, visits(OTHER, seq=3), visits(UNIT, seq=4))
    reject(store, "a", f"poison of {UNIT}")
    reject(store, "b", "poison of others")


# --- cutting ---------------------------------------------------------------------------------------------------------


def rows_of(store: Store, text: str) -> list[tuple[Any, ...]]:
    land(store, text, waits=False)
    rows = ask(
        store,
        "select flag, variant, targeting_key, resolve_id, applied_at, null from exposures union all "
        "select flag, rule, targeting_key, resolve_id, applied_at, position from fallthrough_exposures order by all",
    )
    with store.transaction() as connection:
        for table in ("exposures", "fallthrough_exposures", "ledger", "rejected_messages"):
            assert table != "rejected_messages" or ask_in(connection, f"select count(*) from {table}") == [(0,)]
            connection.execute(f"delete from {table}")
    return rows


def ask_in(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
    return found


AWKWARD = ("MATCH", "17", 'it\'s \\ "quoted"', "å漢🦊", "nul\0inside", UNIT)


@pytest.mark.parametrize("make", [visits, upstream])
@pytest.mark.parametrize("unit", [*AWKWARD, "nobody"])
def test_a_cut_message_says_of_others_what_it_said(store: Store, make: Any, unit: str) -> None:
    """It is still whole, its rows are those of the others, and the unit is not in it."""
    text = make("", *AWKWARD)
    rows = rows_of(store, text)
    cut = cut_units(text, [unit])
    left = rows_of(store, cut)
    assert left == [row for row in rows if row[2] != unit]
    assert len(left) == len(rows) - (0 if unit == "nobody" else 2)
    assert holds_unit(cut, [unit]) is (unit == "MATCH" and make is visits)
    assert read_message(cut).to_json()


def test_a_rule_that_was_passed_with_another_unit_goes_alone(store: Store) -> None:
    """The exposure is of somebody who asked for nothing."""
    text = body(request(decided(unit=OTHER, fallthroughs=(Fallthrough(unit=UNIT), Fallthrough(unit="device")))))
    units = [row[2] for row in rows_of(store, cut_units(text, [UNIT]))]
    assert sorted(units) == ["device", OTHER]


def test_half_a_surrogate_pair_survives_a_cut(store: Store) -> None:
    """JavaScript writes it, and the tables know the unit by U+FFFD."""
    text = json.dumps(json.loads(visits("half\ud83e", "whole\ud83e")))
    rows = rows_of(store, cut_units(text, ["half\ufffd"]))
    assert [row[2] for row in rows if row[2]] == ["whole\ufffd"] * 2


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (json.dumps({"a": [{"b": "ü-1"}]}), True),
        (json.dumps({"ü-1": 1}), True),
        (json.dumps(json.dumps({"a": "ü-1"})), True),
        (json.dumps({"a": "ü-17"}), False),
        (json.dumps({"a": "of ü-1"}), False),
        ('{"a": "ü-1"', True),
        ('{"a": "\\u00fc-1"', True),
        ('"{\\"a\\": \\"\\\\u00fc-1\\"', True),
        ("[" * 100_000 + '"ü-1"', True),
        ("[" * 900 + '"ü-1"' + "]" * 900, True),
        ("17", False),
        (json.dumps({"a": True}), False),
    ],
)
def test_what_holds_a_unit(*, text: str, holds: bool) -> None:
    """A whole string of what is JSON, a part of what is none."""
    assert holds_unit(text, ["ü-1"]) is holds


def test_a_number_may_be_a_unit() -> None:
    """As the tables have it, which make it a text."""
    assert holds_unit('{"targetingKey": 17}', ["17"])
    assert not holds_unit('{"targetingKey": 17, "is": true}', ["1"])


def test_what_cannot_be_cut_says_nothing(forwarding: Settings) -> None:
    """A message of an odd shape that landed does not keep others from being erased."""
    odd = json.dumps(json.loads(visits(UNIT)) | {"units": [UNIT, 17]})
    with Store(forwarding.database) as store:
        land(store, odd, visits(OTHER, seq=1))
        assert ask(store, "select count(*) from rejected_messages") == [(0,)]
    assert forget(forwarding, Account(), {UNIT}).outbox_message_count == 1
    with Store(forwarding.database) as store:
        assert UNIT not in everything(store)
        assert read_message(ask(store, "select text from outbox where seq = 0")[0][0]).is_empty


SERIALIZED = {
    "one byte a character": b'\xff\x0f"\x0fof ' + "é-1 and é-2".encode("latin-1"),
    "two bytes": b"\xff\x0fc\x1e" + "of é-1 and 漢".encode("utf-16-le"),
    "two bytes, padded": b"\xff\x0f\0c\x1e" + "of é-1 and 漢".encode("utf-16-le"),
}


@pytest.mark.parametrize("name", SERIALIZED)
def test_what_javascript_serialized_is_looked_through(forwarding: Settings, name: str) -> None:
    """A queue that somebody else fills may hold it (content type v8); nothing here reads it, so it is rejected."""
    encoded = base64.encodebytes(SERIALIZED[name]).decode()
    with Store(forwarding.database) as store:
        reject(store, "a", encoded, "v8")
        reject(store, "b", base64.b64encode(b"\xff\x0fof nobody").decode(), "v8")
    assert forget(forwarding, Account(), {"é-1"}).rejected_message_count == 1


def test_stopped_in_the_drain_it_says_so(forwarding: Settings) -> None:
    """What is still queued would land after the unit was forgotten."""
    stop = threading.Event()
    stop.set()
    queue = Account(visits(UNIT, seq=1))
    with Store(forwarding.database) as store:
        land(store, visits(UNIT))
    with pytest.raises(LocalError, match="before the queues were drained"):
        forget(forwarding, queue, {UNIT}, stop=stop)
    assert len(queue.messages) == 1


# --- a database ------------------------------------------------------------------------------------------------------


@pytest.fixture
def forwarding(settings: Settings) -> Settings:
    """Settings whose outbox is filled and that forward to nobody here."""
    return replace(settings, forward=FORWARDING)


@pytest.fixture(params=["file", "lake"])
def any_settings(forwarding: Settings, request: pytest.FixtureRequest) -> Settings:
    if request.param == "file":
        return forwarding
    return replace(forwarding, database=request.getfixturevalue("lake"))


def test_everything_of_a_unit_goes_and_nothing_else(any_settings: Settings) -> None:
    """Rows, messages that wait, rejected ones; a second run finds nothing."""
    with Store(any_settings.database) as store:
        fill(store)
        others = [row for row in ask(store, ANALYSIS) if row[0] != UNIT]
        assert UNIT in everything(store)
    done = forget(any_settings, Account(), {UNIT})
    assert done.rows == {"exposures": 4, "fallthrough_exposures": 4}
    assert (done.outbox_message_count, done.rejected_message_count) == (4, 1)
    with Store(any_settings.database) as store:
        assert ask(store, ANALYSIS) == others
        assert UNIT not in everything(store)
        assert ask(store, "select message_id from rejected_messages") == [("b",)]
        texts = [text for (text,) in ask(store, "select text from outbox")]
        assert len(texts) == 5
        assert [sum(text.count(unit) for text in texts) for unit in ("third", OTHER)] == [1, 5]
    again = forget(any_settings, Account(), {UNIT})
    assert again == Forgotten(unit_count=1)


def test_a_dry_run_counts_and_changes_nothing(forwarding: Settings) -> None:
    """The queue is not even asked."""
    with Store(forwarding.database) as store:
        fill(store)
        before = everything(store)
    queue = Account(visits(UNIT, seq=9))
    done = forget(forwarding, queue, {UNIT, OTHER}, dry_run=True)
    assert done.rows == {"exposures": 8, "fallthrough_exposures": 8}
    assert (done.outbox_message_count, done.rejected_message_count, queue.pull_count) == (5, 1, 0)
    with Store(forwarding.database) as store:
        assert everything(store) == before


def test_a_dry_run_makes_no_database(settings: Settings) -> None:
    with pytest.raises(LocalError, match="there is no database"):
        forget(settings, Account(), {UNIT}, dry_run=True)
    assert not Path(str(settings.database)).exists()


def test_what_is_queued_or_rejected_is_erased_too(forwarding: Settings) -> None:
    """It is drained first; of a rejected message that can be read by now the others' rows come in."""
    with Store(forwarding.database) as store, store.transaction():
        pass
    with Store(forwarding.database) as store:
        reject(store, "a", visits(UNIT, OTHER, seq=5))
    queue = Account(visits(UNIT, OTHER), visits(OTHER, seq=1))
    done = forget(forwarding, queue, {UNIT})
    assert (done.drained_count, done.rows["exposures"], done.rejected_message_count) == (2, 2, 0)
    assert queue.messages == []
    with Store(forwarding.database) as store:
        assert {unit for unit, *_ in ask(store, ANALYSIS)} == {OTHER, None}
        assert ask(store, "select count(*) from outbox") == [(3,)]
        assert UNIT not in everything(store)


def test_a_table_that_came_later_is_not_forgotten(settings: Settings) -> None:
    """Whatever has a column of that name."""
    with Store(settings.database) as store, store.transaction() as connection:
        connection.execute('create table "of analysts" as select $1 as targeting_key, 1 as n', [UNIT])
    assert forget(settings, Account(), {UNIT}).rows == {"of analysts": 1}


def test_a_cut_message_is_delivered_and_known(forwarding: Settings) -> None:
    """Its key is the one that the ledger has, so a redelivery is a duplicate."""
    message, official = visits(UNIT, OTHER), upstream(UNIT, OTHER, seq=2)
    queue = Account(message, official)
    forget(forwarding, queue, {UNIT})
    with Store(forwarding.database) as store:
        keys = "select isolate, seq from {} order by all"
        assert ask(store, keys.format("outbox")) == ask(store, keys.format("ledger"))
        land(store, message, official)
        assert ask(store, "select sum(duplicate_count) from ledger") == [(2,)]
        assert UNIT not in everything(store)


# --- bytes -----------------------------------------------------------------------------------------------------------


def files_with_unit(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and PART in path.read_bytes()]


@pytest.mark.parametrize("compression", ["uncompressed", "auto"])
def test_a_file_keeps_no_byte(forwarding: Settings, compression: str) -> None:
    """A delete leaves them, which shows that they would be found; forgetting does not."""
    path = Path(str(forwarding.database))
    with Store(forwarding.database) as store:
        store.connection.execute(f"set force_compression = '{compression}'")
        fill(store)
        with store.transaction() as connection:
            for table in ("exposures", "fallthrough_exposures", "outbox", "rejected_messages"):
                connection.execute(f"delete from {table}")
        assert files_with_unit(path.parent)
        land(store, visits(UNIT, OTHER, seq=50))
    forget(forwarding, Account(), {UNIT})
    assert files_with_unit(path.parent) == []
    assert [each.name for each in path.parent.glob(f"{path.name}*")] == [path.name]


def catalogue_tables_with_unit(postgres: Postgres, lake: Lake) -> list[str]:
    with postgres.connect(lake.name) as connection:
        names = connection.execute("select table_name from information_schema.tables where table_schema = 'public'")
        return [
            name
            for (name,) in names.fetchall()
            if connection.execute(
                f"select count(*) from {name} as each where each::text like '%{UNIT[:20]}%'".encode()
            ).fetchone()
            != (0,)
        ]


def test_a_lake_keeps_no_byte(forwarding: Settings, lake: Lake, postgres: Postgres) -> None:
    """No old Parquet file, nor the bounds of columns in the catalogue, also when others go on writing."""
    settings = replace(forwarding, database=lake)
    folder = Path(lake.data_path)
    with Store(lake) as other:  # a consumer that was there before and stays
        fill(other)
        assert files_with_unit(folder)
        assert "ducklake_table_column_stats" in catalogue_tables_with_unit(postgres, lake)
        with other.transaction() as connection:
            connection.execute("delete from exposures where targeting_key = 'third'")
        forget(settings, Account(), {UNIT})
        assert files_with_unit(folder) == []
        assert catalogue_tables_with_unit(postgres, lake) == []
        land(other, visits(OTHER, seq=20))
        assert catalogue_tables_with_unit(postgres, lake) == []
        assert ask(other, "select count(*) from exposures where targeting_key = 'somebody-else'") == [(5,)]


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
from flagedge.settings import Secret
from log_consumer import forget as module, rewrite
from log_consumer.settings import ForwardSettings, Settings
from test_consumer_forget import Account, FORWARDING, UNIT

def kill(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

point, path = sys.argv[1:]
if point == "before the commit":
    module._erase_rejected = kill
elif point == "before the rewrite":
    module._rewrite = kill
elif point == "in the rewrite":
    rewrite.sync_path = kill
else:
    module.find_sticky_keys = kill
    Account.find_kv_namespace = lambda *_: "namespace"
module.forget(Settings(api_token=Secret("t"), database=path, forward=FORWARDING), Account(), {{UNIT}})
"""


@pytest.mark.parametrize("point", ["before the commit", "before the rewrite", "in the rewrite", "before KV"])
def test_a_run_that_is_killed_is_run_again(forwarding: Settings, point: str) -> None:
    """Nothing of others is lost, and the next run leaves nothing of the unit, whatever the first one left."""
    path = Path(str(forwarding.database))
    with Store(forwarding.database) as store:
        fill(store)
        others = [row for row in ask(store, ANALYSIS) if row[0] != UNIT]
    script = KILLED.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", script, point, str(path)], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert bool(files_with_unit(path.parent)) is (point != "before KV")
    forget(forwarding, Account(), {UNIT})
    assert files_with_unit(path.parent) == []
    with Store(forwarding.database) as store:
        assert ask(store, ANALYSIS) == others
        assert UNIT not in everything(store)


# --- hashes ----------------------------------------------------------------------------------------------------------


def test_hashed_rows_go_as_well(settings: Settings) -> None:
    """Rows of both kinds, and the key is needed to find them."""
    hashing = replace(settings, key_policy=KeyPolicy("hmac", KEY))
    run(settings, Account(visits(UNIT, OTHER)))
    run(hashing, Account(visits(UNIT, OTHER, seq=1)))
    with pytest.raises(SettingsError, match="TARGETING_KEY_HASH_KEY is needed"):
        forget(settings, Account(), {UNIT})
    strange = KeyPolicy("plain", Secret(base64.b64encode(bytes(32)).decode()))
    with pytest.raises(SettingsError, match="none of the keys"):
        forget(replace(settings, key_policy=strange), Account(), {UNIT})
    assert forget(hashing, Account(), {UNIT}).rows == {"exposures": 2, "fallthrough_exposures": 2}
    with Store(settings.database) as store:
        assert ask(store, "select count(*) from exposures where targeting_key is not null") == [(2,)]


def test_an_earlier_key_finds_its_hashes(settings: Settings) -> None:
    """With it nothing is drained, for that would be stored under it."""
    earlier = replace(settings, key_policy=KeyPolicy("hmac", KEY))
    latest = replace(settings, key_policy=KeyPolicy("hmac", Secret(base64.b64encode(bytes(32)).decode())))
    run(earlier, Account(visits(UNIT)))
    with Store(settings.database) as store:
        assert accept_key(store, latest.key_policy)
    done = forget(latest, Account(visits(UNIT, seq=1)), {UNIT})
    assert (done.drained_count, done.rows["exposures"], done.other_key_count) == (1, 1, 1)
    queue = Account(visits(OTHER, seq=2))
    done = forget(earlier, queue, {UNIT})
    assert (done.drained_count, done.rows["exposures"], queue.pull_count) == (0, 1, 0)


# --- the account -----------------------------------------------------------------------------------------------------


@pytest.fixture
def edge() -> Iterator[LocalEdge]:
    with LocalEdge(workerd=find_workerd(None, os.environ, Path(__file__).parent)) as running:
        yield running


@pytest.fixture
def cloudflare(edge: LocalEdge) -> Iterator[Cloudflare]:
    """An account with both queues and a namespace."""
    with Cloudflare(api_token=Secret("any"), base_url=edge.api_url) as client:
        for name in ("flag-logs-queue", "flag-logs-queue-dlq"):
            client.create_pull_consumer(client.create_queue(name).queue_id)
        client.call("POST", "/storage/kv/namespaces", body={"title": "resolver-materializations"})
        yield client


def put_keys(client: Cloudflare, *keys: str) -> str:
    namespace_id = client.find_kv_namespace("resolver-materializations")
    assert namespace_id is not None
    pairs = [{"key": key, "value": "flags/a/variants/on"} for key in keys]
    client.call("PUT", f"/storage/kv/namespaces/{namespace_id}/bulk", body=pairs)
    return namespace_id


def hashed_key(unit: str, materialization: str, rule: str) -> str:
    prefix = sha256(f"mat:{unit}:{materialization}:".encode()).hexdigest()
    return f"mat#{prefix}:{sha256(rule.encode()).hexdigest()}"


def test_sticky_assignments_go(cloudflare: Cloudflare) -> None:
    """Of this unit alone: not of one that begins the same, escaped or not; keys that had to be hashed; many pages."""
    long = "long-" + "x" * 600
    mine = [*(f"mat:a%3A1:m:rule-{n}" for n in range(1100)), hashed_key(long, "m", "flags/a/rules/r")]
    others = ["mat:a%3A12:m:r", "mat:a:1:r", "mat:A%3A1:m:r", hashed_key(long + "y", "m", "flags/a/rules/r")]
    namespace_id = put_keys(cloudflare, *mine, *others)
    assert find_sticky_keys(cloudflare, namespace_id, ["a:1", long]) == sorted(mine)


def test_forgetting_over_an_account(cloudflare: Cloudflare, forwarding: Settings) -> None:
    """Both queues, the tables and KV, also a key that was just written; nothing that is logged names the unit."""
    for name, seq in (("flag-logs-queue", 0), ("flag-logs-queue-dlq", 1)):
        queue = cloudflare.find_queue(name)
        assert queue is not None
        cloudflare.send_message(queue.queue_id, visits(UNIT, OTHER, seq=seq))
    namespace_id = put_keys(cloudflare, f"mat:{UNIT}:m:r", f"mat:{OTHER}:m:r")
    with capture_logs() as logs:
        done = forget(forwarding, cloudflare, {UNIT})
    assert (done.drained_count, done.rows["exposures"], done.outbox_message_count, done.sticky_key_count) == (
        2,
        2,
        2,
        1,
    )
    assert list(cloudflare.list_kv_keys(namespace_id, "")) == [f"mat:{OTHER}:m:r"]
    assert UNIT[:20] not in repr(logs)
    [line] = [line for line in logs if line["event"] == "units.forgotten"]
    assert line["unit_digests"] == [sha256(UNIT.encode()).hexdigest()[:8]]


@pytest.fixture
def command_environment(edge: LocalEdge, database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "token")
    monkeypatch.setenv("CLOUDFLARE_API_BASE_URL", edge.api_url)
    monkeypatch.setenv("DATABASE", database)
    monkeypatch.setenv("LOG_LEVEL", "debug")
    return database


def test_the_command(
    edge: LocalEdge, cloudflare: Cloudflare, command_environment: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Units from the command line and from a file; counts on stdout, no unit anywhere."""
    edge.set_conditions(kv_write_limit=False)
    put_keys(cloudflare, f"mat:{UNIT}:m:r")
    with Store(command_environment) as store:
        land(store, visits(UNIT, OTHER, "third"), waits=False)
    named = tmp_path / "units"
    named.write_text(f"{UNIT}\n\n{OTHER}\r\n", encoding="utf-8")
    assert main(["forget", "--from-file", str(named), "--unit", OTHER, "--dry-run"]) == 0
    printed = capfd.readouterr()
    assert printed.out == (
        "2 units: would be erased\n  2 exposures\n  2 fallthrough_exposures\n  1 sticky assignments\n"
        "Messages in the queues were not looked at\n"
    )
    assert main(["forget", "--from-file", str(named), "--json"]) == 0
    erased = capfd.readouterr()
    assert json.loads(erased.out)["rows"] == {"exposures": 2, "fallthrough_exposures": 2}
    for text in (printed.err, erased.out, erased.err):
        assert UNIT[:20] not in text
        assert OTHER not in text
    assert main(["forget", "--unit", UNIT, "--keep-sticky"]) == 0
    assert capfd.readouterr().out == "1 units: nothing to erase\n"
    assert main(["forget"]) == 2
    assert main(["forget", "--from-file", str(tmp_path / "absent")]) == 2
    assert "absent cannot be read" in capfd.readouterr().err
