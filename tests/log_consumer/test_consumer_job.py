"""Pull, load, ack: nothing twice and nothing lost, wherever it stops."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deliveries import NOW, ask
from fake_queue import QUEUE_ID, FakeQueue, pull_response
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from messages import body, decided, no_match, request
from structlog.testing import capture_logs

from flagedge.errors import ApiError, DecodeError, LocalError, UnavailableError
from log_consumer.ack import delay_of
from log_consumer.job import Summary, run
from log_consumer.load import Batch, Loaded, decode, load, make_stage
from log_consumer.pull import EMPTY_ROUNDS
from log_consumer.redrive import redrive
from log_consumer.settings import Settings
from log_consumer.store import Store

HERE = Path(__file__).parent


def drain(settings: Settings, queue: FakeQueue) -> Summary:
    return run(settings, queue)


def rows(database: str, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(database, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_a_queue_is_drained(settings: Settings) -> None:
    """Everything is loaded and acked, over as many pulls as it takes."""
    queue = FakeQueue(*(body(seq=seq) for seq in range(250)))
    summary = drain(settings, queue)
    assert (summary.loaded_count, summary.rows["exposures"], summary.batch_count) == (250, 250, 1)
    assert queue.messages == []
    assert rows(settings.database, "select count(*), count(distinct seq) from exposures") == [(250, 250)]


def test_a_batch_ends_at_its_bytes(settings: Settings) -> None:
    """A backlog is loaded in as many transactions as the bound says, none of them much larger."""
    queue = FakeQueue(*(body(seq=seq) for seq in range(100)))
    four_answers = 4 * len(pull_response(*queue.messages[:5])) + 1000
    summary = drain(replace(settings, pull_batch_size=5, batch_max_bytes=four_answers), queue)
    assert summary.batch_count == 5
    assert rows(settings.database, "select count(*), count(distinct seq) from exposures") == [(100, 100)]


def test_one_empty_pull_is_not_an_empty_queue(settings: Settings) -> None:
    """Only several empty pulls in a row end the run, whatever the backlog count says."""
    queue = FakeQueue(body())
    queue.empty_pulls = EMPTY_ROUNDS - 1
    assert drain(replace(settings, max_concurrent_pulls=1), queue).loaded_count == 1
    assert queue.pull_count == EMPTY_ROUNDS + 1 + EMPTY_ROUNDS


def test_an_empty_queue_does_not_touch_the_file(settings: Settings) -> None:
    """Nothing to load, nobody kept out."""
    assert drain(settings, FakeQueue()).message_count == 0
    assert not Path(settings.database).exists()


def test_rejected_messages_are_acked_too(settings: Settings) -> None:
    """Poison is kept in the database and leaves the queue."""
    queue = FakeQueue("poison", body())
    summary = drain(settings, queue)
    assert (summary.loaded_count, summary.rejected_count, queue.messages) == (1, 1, [])
    assert rows(settings.database, "select body from rejected_messages") == [("poison",)]


def test_a_missing_queue_names_the_way_out(settings: Settings) -> None:
    """The error says which queue, and what makes it."""
    with pytest.raises(ApiError, match=r"no queue flag-logs-queue\. `sync-job run` makes it"):
        drain(settings, FakeQueue(name="other"))


class DeafQueue(FakeQueue):
    """A queue whose acks fail."""

    def ack_messages(
        self, queue_id: str, *, acks: Sequence[str], retries: Sequence[tuple[str, int]] = ()
    ) -> dict[str, Any]:
        raise UnavailableError("no answer to the ack")


def test_what_was_not_acked_comes_again_and_changes_nothing(settings: Settings) -> None:
    """A failure between commit and ack ends the run; the next one finds the rows there."""
    deaf = DeafQueue(body(seq=1), "poison")
    with pytest.raises(UnavailableError):
        drain(settings, deaf)
    deaf.end_leases()
    queue = FakeQueue()
    queue.messages, queue.now_ms = deaf.messages, deaf.now_ms
    summary = drain(settings, queue)
    assert (summary.loaded_count, summary.duplicate_count, queue.messages) == (0, 1, [])
    counts = "select (select count(*) from exposures), (select count(*) from rejected_messages)"
    assert rows(settings.database, counts) == [(1, 1)]


def test_a_batch_that_is_not_committed_is_handed_back(settings: Settings, tmp_path: Path) -> None:
    """When the database cannot be had, the messages stay in the queue, and what was pulled ahead as well."""
    queue = FakeQueue(*(body(seq=seq) for seq in range(250)))
    small = replace(settings, batch_max_bytes=1, max_concurrent_pulls=2)
    with pytest.raises(LocalError):
        drain(replace(small, database=str(tmp_path / "absent/exposures.duckdb")), queue)
    pulled = [each for each in queue.messages if each.attempts]
    assert len(pulled) >= 100
    assert {each.visible_at_ms for each in pulled} == {1000 * delay_of(1)}
    assert (queue.acked, len(queue.messages)) == ([], 250)
    queue.end_leases()
    assert (drain(small, queue).loaded_count, queue.messages) == (250, [])


def test_a_database_that_is_away_for_days_loses_nothing(settings: Settings, tmp_path: Path) -> None:
    """A queue keeps a message for 4 days, and gives up what it delivered a hundred times: that takes as long."""
    queue, away = FakeQueue(body()), replace(settings, database=str(tmp_path / "absent/exposures.duckdb"))
    for attempts in (1, 2, 3):
        with pytest.raises(LocalError):
            drain(away, queue)
        assert queue.messages[0].visible_at_ms - queue.now_ms == 1000 * delay_of(attempts)
        queue.end_leases()
    assert drain(settings, queue).loaded_count == 1
    assert timedelta(seconds=sum(map(delay_of, range(1, 100)))) > timedelta(days=4)


def test_messages_that_cannot_be_handed_back_keep_their_leases(settings: Settings, tmp_path: Path) -> None:
    """The error is the one that made it necessary."""
    with pytest.raises(LocalError):
        drain(replace(settings, database=str(tmp_path / "absent/exposures.duckdb")), DeafQueue(body()))


def fail_on(monkeypatch: pytest.MonkeyPatch, *poison: int, error: type[duckdb.Error]) -> None:
    """Have DuckDB fail, as only it can tell why, while it writes a batch with a message of these numbers."""

    def write(connection: duckdb.DuckDBPyConnection, batch: Batch, **how: Any) -> Loaded:
        seqs = {seq for (seq,) in connection.execute("select seq from decoded where seq is not null").fetchall()}
        if seqs & {str(number) for number in poison}:
            raise error("what is in unit-17 cannot be")
        return load(connection, batch, **how)

    monkeypatch.setattr("log_consumer.job.load", write)
    monkeypatch.setattr("log_consumer.redrive.load", write)


@pytest.mark.parametrize("poison", [(0,), (7, 99, 119)])
def test_poison_that_nobody_foresaw_is_found_and_rejected(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, poison: tuple[int, ...]
) -> None:
    """All others land, once; it is kept as it came, and can be redriven once the reason is gone."""
    queue = FakeQueue(*(body(seq=seq) for seq in range(120)))
    with monkeypatch.context() as failing:
        fail_on(failing, *poison, error=duckdb.ConversionException)
        summary = drain(settings, queue)
        with Store(settings.database) as store:
            again = redrive(store, fills_outbox=False)
    assert (summary.loaded_count, summary.rejected_count, queue.messages) == (120 - len(poison), len(poison), [])
    assert rows(settings.database, "select count(*), count(distinct seq) from exposures") == [(120 - len(poison),) * 2]
    reason = "could not be loaded (ConversionException)"
    assert again.reasons == {reason: len(poison)}
    assert rows(settings.database, "select distinct reason from rejected_messages") == [(reason,)]
    with Store(settings.database) as store:
        assert redrive(store, fills_outbox=False).loaded_count == len(poison)
    assert rows(settings.database, "select count(*), count(distinct seq) from exposures") == [(120, 120)]


def test_poison_that_cannot_be_decoded_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of it but what the queue says."""

    def read(connection: duckdb.DuckDBPyConnection, answers: Sequence[str], **how: Any) -> Batch:
        if any("poison" in answer for answer in answers):
            raise DecodeError("the queue's answer to a pull cannot be decoded")
        return decode(connection, answers, **how)

    monkeypatch.setattr("log_consumer.job.decode", read)
    queue = FakeQueue(*(body(seq=seq) for seq in range(110)), "poison", body(seq=110))
    summary = drain(settings, queue)
    assert (summary.loaded_count, summary.rejected_count, queue.messages) == (111, 1, [])
    assert rows(settings.database, "select body, reason from rejected_messages") == [
        ("poison", "could not be loaded (DecodeError)")
    ]


def test_when_all_is_poison_it_is_us(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that is broken does not empty the queue into the rejected messages."""
    monkeypatch.setattr("log_consumer.job.BLAMED_MAX", 5)
    queue = FakeQueue(*(body(seq=seq) for seq in range(20)))
    fail_on(monkeypatch, *range(20), error=duckdb.InvalidInputException)
    with pytest.raises(LocalError):
        drain(settings, queue)
    assert len(queue.messages) == 15
    assert rows(settings.database, "select count(*) from rejected_messages") == [(5,)]


def test_a_database_that_cannot_be_written_is_no_poison(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """No message is to blame for a full disk."""
    queue = FakeQueue(*(body(seq=seq) for seq in range(10)))
    fail_on(monkeypatch, 3, error=duckdb.IOException)
    with pytest.raises(LocalError):
        drain(settings, queue)
    assert (len(queue.messages), queue.acked) == (10, [])


KILLED = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[2])
    from fake_queue import FakeQueue
    from messages import body
    from flagedge.settings import Secret
    from log_consumer.job import run
    from log_consumer.settings import Settings

    class Killed(FakeQueue):
        def ack_messages(self, *arguments, **options):
            os.kill(os.getpid(), signal.SIGKILL)

    run(Settings(Secret("token"), database=sys.argv[1]), Killed(*(body(seq=seq) for seq in range(100))))
"""


def test_a_kill_between_commit_and_ack_loses_and_doubles_nothing(settings: Settings) -> None:
    """What was committed is there after SIGKILL, and the redelivery is a no-op."""
    command = [sys.executable, "-c", textwrap.dedent(KILLED), settings.database, str(HERE)]
    assert subprocess.run(command, check=False, cwd=HERE.parents[1]).returncode == -9
    summary = drain(settings, FakeQueue(*(body(seq=seq) for seq in range(100))))
    assert (summary.loaded_count, summary.duplicate_count) == (0, 100)
    assert rows(settings.database, "select count(*), count(distinct seq) from exposures") == [(100, 100)]


FULL = """
    import resource, signal, sys
    sys.path.insert(0, sys.argv[2])
    from fake_queue import FakeQueue
    from messages import body, busy_request
    from flagedge.errors import LocalError
    from flagedge.settings import Secret
    from log_consumer.job import run
    from log_consumer.settings import Settings

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
    queue = FakeQueue(*(body(*(busy_request(seq * 10 + i) for i in range(10)), seq=seq) for seq in range(100)))
    try:
        run(Settings(Secret("token"), database=sys.argv[1]), queue)
    except LocalError as exc:
        print(len(queue.acked), exc)
"""


def test_a_full_disk_acks_nothing(settings: Settings) -> None:
    """A commit that cannot be written is an error that names the file; the next run has all of it again."""
    command = [sys.executable, "-c", textwrap.dedent(FULL), settings.database, str(HERE)]
    done = subprocess.run(command, check=False, cwd=HERE.parents[1], capture_output=True, text=True)
    assert done.stdout.startswith(f"0 cannot write {settings.database}: "), done.stderr
    assert drain(settings, FakeQueue(body())).loaded_count == 1
    assert rows(settings.database, "select count(*) from exposures") == [(1,)]


def test_a_run_ends_in_one_line_of_facts(settings: Settings) -> None:
    """One job.finished per run, one batch.loaded per batch."""
    with capture_logs() as logs:
        drain(settings, FakeQueue(body(), "poison"))
    assert [line["event"] for line in logs] == ["batch.loaded", "messages.rejected", "job.finished"]
    assert logs[-1]["exposures_rows"] == logs[-1]["loaded_count"] == logs[-1]["rejected_count"] == 1


class CrashError(Exception):
    """The process is gone, as far as the database can tell."""


BODIES = [body(request(decided(unit=f"u{seq}"), no_match()), seq=seq) for seq in range(6)] + ["poison", "{}"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, len(BODIES) - 1)),
        st.tuples(st.sampled_from(["ack", "crash after commit", "crash before commit", "end leases"]), st.just(0)),
    ),
    max_size=25,
)


def play(store: Store, queue: FakeQueue, steps: list[tuple[str, int]]) -> None:
    """Do the steps; every batch but that of `ack` is delivered again once its leases end."""
    for step, which in steps:
        if step == "send":
            queue.send(BODIES[which])
        elif step == "end leases":
            queue.end_leases()
        elif step == "crash before commit":
            with pytest.raises(CrashError):
                take_batch(store, queue, crash=True)
        else:
            lease_ids = take_batch(store, queue)
            if step == "ack" and lease_ids:
                queue.ack_messages(QUEUE_ID, acks=lease_ids)


def take_batch(store: Store, queue: FakeQueue, *, crash: bool = False) -> tuple[str, ...]:
    batch = decode(store.connection, [queue.pull_messages(QUEUE_ID, visibility_timeout_ms=1000)], now=NOW)
    with store.transaction() as connection:
        load(connection, batch, is_lake=store.is_lake)
        if crash:
            raise CrashError
    return batch.lease_ids


@given(steps=STEPS)
@given_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_interleaving_ends_in_the_same_tables(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    """Whatever is delivered, crashed on, redelivered and acked: each message's rows are there once."""
    database = str(tmp_path_factory.mktemp("interleaving") / "exposures.duckdb")
    queue = FakeQueue()
    with Store(database) as store:
        make_stage(store.connection)
        play(store, queue, steps)
        queue.end_leases()
        while queue.messages:
            play(store, queue, [("ack", 0)])
        sent = {which for step, which in steps if step == "send"}
        loadable = sorted(which for which in sent if which < 6)
        expected = [(seq, 2, 1, seq) for seq in loadable]
        columns = "seq, count(*), count(targeting_key), max(targeting_key)[2:]::int"
        assert ask(store, f"select {columns} from exposures group by seq order by seq") == expected
        assert ask(store, "select seq from ledger order by seq") == [(seq,) for seq in loadable]
        poison_count = sum(1 for step, which in steps if step == "send" and which >= 6)
        assert ask(store, "select count(*) from rejected_messages") == [(poison_count,)]
