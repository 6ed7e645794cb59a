"""Forwarding to Confidence: at least once, to the first destination that takes it, holding nobody back."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import structlog
from deliveries import NOW
from fake_confidence import CLOUDFLARE_PATH, EDGE_PATH, NOTHING, OK, Answer, FakeConfidence, Received, answer
from fake_queue import QUEUE_ID, FakeQueue
from messages import body, busy_request, decided, record, request

from flagedge.errors import LocalError, SettingsError
from flagedge.settings import Secret
from log_consumer.destination import Destination, Failure, Fault, open_destinations
from log_consumer.forward import Courier, Forwarded, Forwarder, forward
from log_consumer.load import decode, load, make_stage
from log_consumer.outbox import Outbox, Report
from log_consumer.rebuild import rebuild
from log_consumer.store import Store

SECRET = "mkjJ-client-secret-of-the-shop-27"
ACCOUNT = "flagedge-demo"
HOUR_S = 3600.0


class Clock:
    """A time that the test moves: the database's and the destinations' alike."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def __call__(self) -> float:
        return self.passed_s

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.passed_s)


class Site:
    """A database with an outbox, and the way to Confidence."""

    def __init__(self, store: Store, confidence: FakeConfidence) -> None:
        self.store = store
        self.confidence = confidence
        self.clock = Clock()
        self.stop = threading.Event()
        self.summary = Forwarded()
        self.outbox = Outbox(store)
        self._seq = itertools.count()
        self.couriers: list[Courier] = []

    def land(self, *texts: str) -> None:
        """As the load does: in one transaction, at the same time."""
        rows = [("isolate", next(self._seq), self.clock.now(), text) for text in texts]
        with self.store.transaction() as connection:
            connection.executemany("insert into outbox (isolate, seq, landed_at, text) values ($1, $2, $3, $4)", rows)

    def land_units(self, *units: str) -> None:
        self.land(*(body(request(decided(unit=unit))) for unit in units))

    def courier(self, *names: str, **how: Any) -> Courier:
        opened = Courier(self.destinations(*names), **how)
        self.couriers.append(opened)
        return opened

    def destinations(self, *names: str, timeout_s: float = 5.0) -> list[Destination]:
        return open_destinations(
            names or ("edge",),
            client_secret=Secret(SECRET),
            account=ACCOUNT,
            edge_url=self.confidence.edge_url,
            cloudflare_url=self.confidence.cloudflare_url,
            timeout_s=timeout_s,
            clock=self.clock,
        )

    def forward(self, courier: Courier | None = None) -> float | None:
        return forward(self.outbox, courier or self.courier(), self.summary, stop=self.stop, now=self.clock.now)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.store.transaction() as connection:
            return connection.execute(sql).fetchall()

    def states(self) -> dict[str, int]:
        """Messages by state, as the view has them."""
        return {
            state: int(count)
            for state, count in self.ask(
                "select state, sum(message_count) from forwarding where message_count > 0 group by 1"
            )
        }


@pytest.fixture
def confidence() -> Iterator[FakeConfidence]:
    with FakeConfidence() as running:
        yield running


@pytest.fixture
def site(database: str, confidence: FakeConfidence) -> Iterator[Site]:
    with Store(database, lock_wait_s=5.0) as store:
        made = Site(store, confidence)
        yield made
        for courier in made.couriers:
            courier.__exit__(None, None, None)


def units(count: int) -> list[str]:
    return [f"unit-{number:04d}" for number in range(count)]


def only_from(path: str, answered: Answer, otherwise: Answer = OK) -> Callable[[Received], Answer]:
    return lambda received: answered if received.path == path else otherwise


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_what_landed_is_delivered_once(site: Site) -> None:
    """All that is due goes out, aggregated, and leaves the outbox; nothing goes out again."""
    texts = [body(busy_request(number), seq=number) for number in range(5)]
    site.land(*texts)
    assert site.forward() is None
    assert site.forward() is None
    [received] = site.confidence.received
    assert received.logs == rebuild(texts)
    assert site.states() == {"delivered": 5}
    assert site.summary.facts() == {
        "forwarded_delivered_count": 5,
        "forwarded_failed_count": 0,
        "forwarded_parked_count": 0,
    }


def test_edge_gets_json_with_the_secret(site: Site) -> None:
    """Path, authorization and body are those of the official consumer."""
    text = body()
    site.land(text)
    site.forward()
    [received] = site.confidence.received
    assert received.path == EDGE_PATH
    assert received.headers["authorization"] == f"ClientSecret {SECRET}"
    assert received.headers["content-type"] == "application/json"
    assert b'"applyTime":"2025-11-21T04:40:00.123+00:00"' in received.body
    assert b'"count":"1"' in received.body


def test_cloudflare_gets_protobuf_with_the_account(site: Site) -> None:
    """The batch is an encoded request inside an encoded request that names the account."""
    text = body()
    site.land(text)
    site.forward(site.courier("cloudflare"))
    [received] = site.confidence.received
    assert received.path == CLOUDFLARE_PATH
    assert received.headers["authorization"] == f"ClientSecret {SECRET}"
    assert received.headers["content-type"] == "application/protobuf"
    assert received.ingest.account_id == ACCOUNT
    assert received.logs == rebuild([text])


def test_both_forms_go_out_together(site: Site) -> None:
    """Messages of the official Worker are forwarded like ours."""
    theirs = {"flagAssigned": [{"flags": [{"flag": "flags/a", "targetingKey": "theirs", "defaultAssignment": {}}]}]}
    site.land(body(request(decided(unit="ours"))), json.dumps(theirs))
    site.forward()
    assert site.confidence.taken_units == ["ours", "theirs"]


def test_a_message_that_says_nothing_is_not_sent(site: Site) -> None:
    """There is no empty body; the message is done with."""
    site.land("{}")
    site.forward()
    assert site.confidence.received == []
    assert site.ask("select state, destination from forwarding") == [("delivered", None), ("waiting", None)]


# --- fallback --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [answer(500), answer(400), answer(401), answer(413), NOTHING])
def test_what_the_primary_does_not_take_the_fallback_gets(site: Site, answered: Answer) -> None:
    """Whatever is wrong with the primary, the fallback is asked at once."""
    site.confidence.respond = only_from(EDGE_PATH, answered)
    site.land_units("a")
    site.forward(site.courier("edge", "cloudflare"))
    assert [received.path for received in site.confidence.received] == [EDGE_PATH, CLOUDFLARE_PATH]
    assert site.confidence.taken_units == ["a"]
    assert site.states() == {"delivered": 1, "failed": 1}


def test_a_primary_that_fails_is_left_in_peace_for_a_while(site: Site) -> None:
    """While it rests the fallback gets everything; then the primary is asked again."""
    site.confidence.respond = only_from(EDGE_PATH, answer(503))
    courier = site.courier("edge", "cloudflare")
    for unit in "abc":
        site.land_units(unit)
        site.forward(courier)
    assert [received.path for received in site.confidence.received].count(EDGE_PATH) == 1
    site.confidence.respond = lambda _: OK
    site.clock.passed_s += 2
    site.land_units("d")
    site.forward(courier)
    assert site.confidence.received[-1].path == EDGE_PATH
    assert site.confidence.taken_units == ["a", "b", "c", "d"]


# --- what is refused -------------------------------------------------------------------------------------------------


def refuse(*poisoned: str, status: int = 400) -> Callable[[Received], Answer]:
    return lambda received: answer(status) if received.units & set(poisoned) else OK


def test_a_refused_message_holds_nobody_back(site: Site) -> None:
    """Of a body that is refused all but the refused message are delivered in the same go."""
    site.confidence.respond = refuse("unit-0013")
    site.land_units(*units(40))
    site.forward()
    assert site.confidence.taken_units == sorted(set(units(40)) - {"unit-0013"})
    assert site.states() | {"failed": 0} == {"delivered": 39, "waiting": 1, "failed": 0}
    assert len(site.confidence.received) <= 2 * 6 + 1


def test_a_message_refused_too_often_is_parked(site: Site) -> None:
    """It is tried seldom, then no more; it stays, visible, and goes out when somebody has it tried again."""
    site.confidence.respond = refuse("poison")
    site.land_units("poison", "good")
    courier = site.courier(max_refusals=3)
    tried = []
    for _ in range(6):
        site.forward(courier)
        tried.append(len(site.confidence.received))
        site.clock.passed_s += 3600
    assert tried[2:] == [tried[2]] * 4
    assert site.confidence.taken_units == ["good"]
    [(state, reason, count)] = site.ask("select state, reason, message_count from forwarding where state = 'parked'")
    assert (state, reason, count) == ("parked", "answered 400", 1)
    site.confidence.respond = lambda _: OK
    assert site.outbox.redrive() == 1
    site.forward(courier)
    assert site.confidence.taken_units == ["good", "poison"]
    assert site.states()["delivered"] == 2
    assert "parked" not in site.states()


def test_a_message_that_cannot_be_read_is_parked_at_once(site: Site) -> None:
    """It is not sent, and the others are."""
    site.land('{"format": "flagedge/1"}', body(request(decided(unit="good"))))
    site.forward()
    assert site.confidence.taken_units == ["good"]
    [(reason,)] = site.ask("select reason from forwarding where state = 'parked'")
    assert reason == "the message cannot be rebuilt (KeyError)"


def test_refused_by_one_of_two_is_not_refused(site: Site) -> None:
    """While one destination is only out of order, the other's refusal parks nothing."""
    site.confidence.respond = only_from(EDGE_PATH, answer(400), answer(503))
    site.land_units("a")
    courier = site.courier("edge", "cloudflare", max_refusals=1)
    for _ in range(3):
        site.forward(courier)
        site.clock.passed_s += 3600
    assert site.states()["waiting"] == 1
    site.confidence.respond = lambda _: OK
    site.forward(courier)
    assert site.states()["delivered"] == 1


def test_a_destination_that_refuses_all_is_not_asked_for_each(site: Site) -> None:
    """When body after body is refused it is not the messages, and the backlog is not walked through."""
    site.confidence.respond = lambda _: answer(400)
    site.land_units(*units(500))
    courier = site.courier()
    assert (site.forward(courier) or 0) > 0
    assert len(site.confidence.received) <= 30
    assert site.states()["waiting"] == 500


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_secret_stops_at_the_first_body(site: Site, status: int) -> None:
    """What is wrong with the destination is not looked for in the messages."""
    site.confidence.respond = lambda _: answer(status)
    site.land_units(*units(50))
    assert (site.forward() or 0) > 0
    assert len(site.confidence.received) == 1
    assert site.states() == {"waiting": 50, "failed": 50}


# --- out of order ----------------------------------------------------------------------------------------------------


def test_a_message_that_makes_its_reader_fail_holds_no_others_back(site: Site) -> None:
    """A failure that passes for others says nothing of the message, so it is found by ever smaller bodies."""
    site.confidence.respond = lambda received: answer(500) if "unit-0050" in received.units else OK
    site.land_units(*units(100))
    courier = site.courier()
    while site.clock.passed_s < 2 * HOUR_S:
        site.clock.passed_s += (site.forward(courier) or 0) + 0.001
    assert site.confidence.taken_units == [unit for unit in units(100) if unit != "unit-0050"]
    assert site.states()["waiting"] == 1


@pytest.mark.parametrize("answered", [answer(503), answer(408), answer(429), NOTHING])
def test_down_for_an_hour_then_up(site: Site, answered: Answer) -> None:
    """Nothing is lost, doubled or parked; it is asked seldom meanwhile, and not all at once when it is up."""
    site.confidence.respond = lambda _: answered
    courier = site.courier(max_bytes=20_000)
    landed = units(600)
    site.land_units(*landed)
    while site.clock.passed_s < HOUR_S:
        wait_s = site.forward(courier)
        assert wait_s
        site.clock.passed_s += wait_s + 0.001
    assert len(site.confidence.received) < 40
    assert site.states()["waiting"] == 600
    assert "parked" not in site.states()
    asked_count, up_at_s = len(site.confidence.received), site.clock.passed_s
    site.confidence.respond = lambda _: answer(200, delay_s=0.002)
    while (wait_s := site.forward(courier)) is not None:
        site.clock.passed_s += wait_s + 0.001
    assert site.confidence.taken_units == landed
    assert site.states()["delivered"] == 600
    assert len(site.confidence.received) - asked_count < 100
    assert site.confidence.most_at_once <= 4
    assert site.clock.passed_s - up_at_s < 900


def test_down_for_a_day_of_runs(site: Site) -> None:
    """A run every hour, each by a process of its own, asks once or twice; the first one after it brings everything."""
    site.confidence.respond = lambda _: answer(503)
    landed = units(240)
    for hour in range(24):
        site.land_units(*landed[10 * hour : 10 * (hour + 1)])
        site.forward(site.courier())
        site.clock.passed_s += HOUR_S
    assert len(site.confidence.received) == 24
    assert site.states()["waiting"] == 240
    site.confidence.respond = lambda _: OK
    site.forward(site.courier())
    assert site.confidence.taken_units == landed
    [(lag_s,)] = site.ask("select max(max_lag_s) from forwarding where state = 'delivered'")
    assert lag_s == 24 * HOUR_S


def test_it_starts_with_one_body_and_then_asks_for_more(site: Site) -> None:
    """The first body goes alone; when it was taken, several go at once, never more than allowed."""
    site.confidence.respond = lambda _: answer(200, delay_s=0.03)
    site.land_units(*units(200))
    courier = site.courier(max_bytes=5_000, max_concurrent=3)
    assert courier.wanted_bytes <= 5_000
    site.forward(courier)
    assert site.confidence.taken_units == units(200)
    assert site.confidence.most_at_once == 3


def test_retry_after_is_kept(site: Site) -> None:
    """Neither the destination nor the message is tried before."""
    site.confidence.respond = lambda _: answer(429, retry_after="1200")
    site.land_units("a")
    courier = site.courier()
    assert site.forward(courier) == pytest.approx(1200)
    site.clock.passed_s = 1100
    assert site.forward(courier) == pytest.approx(100)
    assert len(site.confidence.received) == 1
    site.confidence.respond = lambda _: OK
    site.clock.passed_s = 1201
    site.forward(courier)
    assert site.confidence.taken_units == ["a"]


@pytest.mark.parametrize(("text", "wait_s"), [("7", 7), ("junk", 0), ("-5", 0), ("999999", 3600), ("", 0)])
def test_retry_after_is_bounded(site: Site, text: str, wait_s: float) -> None:
    """What cannot be read asks for nothing, and nobody can ask for a year."""
    site.confidence.respond = lambda _: answer(503, retry_after=text)
    [destination] = site.destinations()
    assert destination.offer(b"{}") == Failure(Fault.PASSING, "answered 503", wait_s)
    destination.close()


def test_retry_after_may_be_a_date(site: Site) -> None:
    """HTTP has two forms of it."""
    at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    site.confidence.respond = lambda _: answer(503, retry_after=at)
    [destination] = site.destinations()
    failure = destination.offer(b"{}")
    assert failure is not None
    assert 95 < failure.retry_after_s <= 100
    destination.close()


def test_a_destination_that_hangs_is_given_up(site: Site) -> None:
    """A call ends after its timeout, and counts as passing."""
    site.confidence.respond = lambda _: answer(200, delay_s=0.5)
    [destination] = site.destinations(timeout_s=0.05)
    assert destination.offer(b"{}") == Failure(Fault.PASSING, "no answer (ReadTimeout)")
    destination.close()


def test_nobody_there_counts_as_passing(site: Site) -> None:
    """A closed port is no reason to park anything."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    [destination] = open_destinations(("edge",), client_secret=Secret(SECRET), edge_url=url)
    assert destination.offer(b"{}") == Failure(Fault.PASSING, "no answer (ConnectError)")
    destination.close()


# --- size ------------------------------------------------------------------------------------------------------------


def test_bodies_have_a_bounded_size(site: Site) -> None:
    """A backlog goes out in bodies below the bound, and adds up to what landed."""
    texts = [body(busy_request(number), seq=number) for number in range(60)]
    site.land(*texts)
    site.forward(site.courier(max_bytes=30_000))
    assert max(len(received.body) for received in site.confidence.received) <= 30_000
    assert_same_sums(site.confidence.taken, texts)


@pytest.mark.parametrize("names", [("edge",), ("cloudflare",)])
def test_a_message_larger_than_a_body_is_cut(site: Site, names: tuple[str, ...]) -> None:
    """A single message, even a single request, goes out in pieces, and none of it is dropped."""
    texts = [body(*(busy_request(number, flag_count=50) for number in range(4)))]
    site.land(*texts)
    site.forward(site.courier(*names, max_bytes=4_000))
    assert max(len(received.body) for received in site.confidence.received) <= 4_000
    assert_same_sums(site.confidence.taken, texts)
    assert site.states() == {"delivered": 1}


def test_what_cannot_be_cut_is_sent_whole(site: Site) -> None:
    """A bound below a single flag holds nothing back."""
    site.land_units("a")
    site.forward(site.courier(max_bytes=10))
    assert site.confidence.taken_units == ["a"]


def test_a_body_that_is_too_large_for_them_is_cut(site: Site) -> None:
    """Their bound counts, whatever ours is."""
    site.confidence.respond = lambda received: answer(413) if len(received.body) > 60_000 else OK
    texts = [body(busy_request(number, flag_count=50), seq=number) for number in range(20)]
    texts.append(body(*(busy_request(number, flag_count=100) for number in range(5)), seq=20))
    site.land(*texts)
    site.forward()
    assert_same_sums(site.confidence.taken, texts)
    assert site.states()["delivered"] == 21


def test_a_destination_for_which_all_is_too_large_is_not_given_crumbs(site: Site) -> None:
    """What is small enough for anybody is refused, not cut."""
    site.confidence.respond = lambda _: answer(413)
    site.land(*(body(busy_request(number, flag_count=50)) for number in range(50)))
    site.forward()
    assert len(site.confidence.received) < 60
    assert site.states()["waiting"] == 50


def test_a_piece_that_fails_brings_the_whole_message_again(site: Site) -> None:
    """A message in pieces is delivered when all of them are: some come twice, none never."""
    calls = itertools.count()
    site.confidence.respond = lambda _: answer(503) if next(calls) == 2 else OK
    texts = [body(busy_request(0, flag_count=40))]
    site.land(*texts)
    courier = site.courier(max_bytes=4_000)
    site.forward(courier)
    assert site.states()["waiting"] == 1
    site.clock.passed_s += 60
    site.forward(courier)
    assert site.states()["delivered"] == 1
    assert Counter(assigned_flags(site.confidence.taken)) > Counter(assigned_flags_of(texts))


def assert_same_sums(taken: Sequence[Received], texts: Sequence[str]) -> None:
    assert assigned_flags(taken) == assigned_flags_of(texts)
    whole = rebuild(texts)
    for field, count in (("variant_resolve_info", "count"), ("rule_resolve_info", "count")):
        expected = sum(getattr(each, count) for info in whole.flag_resolve_info for each in getattr(info, field))
        assert expected == sum(
            getattr(each, count)
            for received in taken
            for info in received.logs.flag_resolve_info
            for each in getattr(info, field)
        )


def assigned_flags(taken: Sequence[Received]) -> list[tuple[str, str]]:
    return sorted(
        (assigned.resolve_id, flag.flag)
        for received in taken
        for assigned in received.logs.flag_assigned
        for flag in assigned.flags
    )


def assigned_flags_of(texts: Sequence[str]) -> list[tuple[str, str]]:
    return sorted(
        (assigned.resolve_id, flag.flag) for assigned in rebuild(texts).flag_assigned for flag in assigned.flags
    )


# --- the secret ------------------------------------------------------------------------------------------------------


def test_redirects_are_not_followed(site: Site) -> None:
    """Nobody else is told the secret, and nothing is taken for delivered."""
    with FakeConfidence() as elsewhere:
        site.confidence.respond = lambda _: answer(307, location=elsewhere.edge_url)
        site.land_units("a")
        site.forward()
        assert elsewhere.received == []
    [(reason,)] = site.ask("select reason from forwarding where state = 'waiting'")
    assert reason == "answered 307, and redirects are not followed"


@pytest.mark.parametrize("url", ["http://resolver.confidence.dev/v1", "http://10.0.0.1/", "ftp://127.0.0.2/x"])
def test_the_secret_goes_nowhere_in_clear(url: str) -> None:
    """Only loopback may be asked without TLS."""
    with pytest.raises(SettingsError, match="https"):
        open_destinations(("edge",), client_secret=Secret(SECRET), edge_url=url)


def test_the_account_is_asked_for_early() -> None:
    """The Cloudflare destination cannot do without."""
    with pytest.raises(SettingsError, match="account"):
        open_destinations(("cloudflare",), client_secret=Secret(SECRET))


@pytest.mark.parametrize("secret", ["", "line\nbreak", "snow☃man"])
def test_a_secret_that_is_no_header_is_found_early(secret: str) -> None:
    """And is not quoted."""
    with pytest.raises(SettingsError) as raised:
        open_destinations(("edge",), client_secret=Secret(secret))
    assert secret not in str(raised.value) or not secret


def test_the_secret_is_nowhere(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Not in logs of any level, reprs, the view or the file, whatever Confidence answers."""
    caplog.set_level(logging.DEBUG)
    echoes = itertools.cycle([answer(401, f"bad secret {SECRET}"), answer(400, SECRET), answer(503, SECRET), NOTHING])
    site.confidence.respond = lambda _: next(echoes)
    courier = site.courier("edge", "cloudflare", max_refusals=2)
    with structlog.testing.capture_logs() as logged:
        for unit in units(12):
            site.land_units(unit)
            site.forward(courier)
            site.clock.passed_s += 4000
    assert any(event["event"] == "forwarding.failed" for event in logged)
    shown = [
        *logged,
        *caplog.messages,
        *site.destinations(),
        courier,
        site.ask("from forwarding"),
        site.ask("from outbox"),
    ]
    assert SECRET not in repr(shown)
    assert SECRET.encode() not in Path(site.store.database).read_bytes()


# --- crashes and others ----------------------------------------------------------------------------------------------

CHILD = """
import sys, threading
from flagedge.settings import Secret
from log_consumer.destination import open_destinations
from log_consumer.forward import Courier, Forwarded, forward
from log_consumer.outbox import Outbox, Report
from log_consumer.store import Store
destinations = open_destinations(("edge",), client_secret=Secret("s"), edge_url=sys.argv[2])
with Store(sys.argv[1]) as store, Courier(destinations) as courier:
    forward(Outbox(store), courier, Forwarded(), stop=threading.Event())
"""


def test_killed_between_delivery_and_its_record(site: Site, database: str) -> None:
    """What was taken and not written down is delivered again: twice, never not at all."""
    children: list[subprocess.Popen[bytes]] = []

    def kill(_: Received) -> Answer:
        os.kill(children[0].pid, signal.SIGKILL)
        return OK

    site.confidence.respond = kill
    site.land_units(*units(20))
    children.append(subprocess.Popen([sys.executable, "-c", CHILD, database, site.confidence.edge_url]))
    assert children[0].wait(timeout=30) == -signal.SIGKILL
    site.confidence.respond = lambda _: OK
    now = datetime.now(UTC).replace(tzinfo=None)
    site.clock.passed_s = (now - NOW).total_seconds() + HOUR_S  # past the child's lease
    site.forward()
    assert site.confidence.taken_units == sorted(units(20) * 2)
    assert site.states() == {"delivered": 20}


def test_only_one_takes_from_the_outbox(site: Site) -> None:
    """While one forwards others find nothing; when it is done, or dead for five minutes, they do."""
    site.land_units("a", "b")
    other = Outbox(site.store)
    first = other.turn(Report(), now=site.clock.now(), max_bytes=1)
    assert len(first.messages) == 1
    assert site.forward() == pytest.approx(300)
    assert site.confidence.received == []
    site.clock.passed_s = 301
    site.forward()
    assert site.confidence.taken_units == ["a", "b"]
    assert site.ask("from forwarder") == []


def test_what_could_not_be_written_down_is_written_with_the_next(site: Site, database: str) -> None:
    """Delivered while somebody takes the file away: it is not delivered again once the file is back."""
    site.land_units("a")
    courier = site.courier()

    def hold(_: Received) -> Answer:
        holders.append(hold_file(database))
        return OK

    holders: list[subprocess.Popen[str]] = []
    site.confidence.respond = hold
    with pytest.raises(LocalError, match="held by another process"):
        site.forward(courier)
    release(holders[0])
    site.confidence.respond = lambda _: OK
    site.forward(courier)
    assert site.confidence.taken_units == ["a"]
    assert site.states() == {"delivered": 1}


def test_the_file_is_free_while_confidence_is_asked(site: Site, database: str) -> None:
    """Analysts and the drain get in while bodies are on their way."""
    counted = []

    def look(_: Received) -> Answer:
        with duckdb.connect(database, read_only=True) as reader:
            counted.append(reader.execute("select count(*) from outbox").fetchone())
        return OK

    site.confidence.respond = look
    site.land_units(*units(10))
    site.forward()
    assert counted == [(10,)]


def test_the_file_is_held_seldom(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn serves many bodies; an outbox that rests is not looked into."""
    holds = []
    transaction = site.store.transaction

    @contextmanager
    def count(**how: Any) -> Iterator[duckdb.DuckDBPyConnection]:
        holds.append(how)
        with transaction(**how) as connection:
            yield connection

    monkeypatch.setattr(site.store, "transaction", count)
    site.land_units(*units(500))
    holds.clear()
    courier = site.courier(max_bytes=20_000)
    site.forward(courier)
    assert len(site.confidence.received) > 10
    assert len(holds) <= 6
    site.confidence.respond = lambda _: answer(503)
    site.land_units("b")
    site.forward(courier)
    holds.clear()
    site.forward(courier)
    assert holds == []


HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def hold_file(database: str) -> subprocess.Popen[str]:
    """Another process that has the file open for writing until `release`."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def release(holder: subprocess.Popen[str]) -> None:
    holder.communicate(timeout=30)


# --- in a thread -----------------------------------------------------------------------------------------------------


@contextmanager
def own_outbox(database: str) -> Iterator[Outbox]:
    """An outbox with a connection of its own, as a thread beside the drain has it."""
    with Store(database) as store:
        yield Outbox(store)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_a_forwarder_delivers_beside_the_drain(site: Site, database: str) -> None:
    """What was there before, what lands meanwhile, and what landed last before the end."""
    site.land_units("unit-before")
    with own_outbox(database) as outbox, Forwarder(outbox, site.courier(), stop=site.stop) as forwarder:
        wait_until(lambda: site.confidence.taken_units == ["unit-before"])
        for unit in units(40):
            site.land_units(unit)
            forwarder.wake()
        wait_until(lambda: len(site.confidence.taken_units) > 30)
        site.land_units("unit-last")
        forwarder.wake()
    assert site.confidence.taken_units == sorted([*units(40), "unit-before", "unit-last"])
    assert forwarder.summary.delivered_count == 42
    assert site.states() == {"delivered": 42}


def test_a_forwarder_waits_a_little_for_confidence(site: Site, database: str) -> None:
    """A destination that is back within its patience gets the rest in the same run."""
    calls = itertools.count()
    site.confidence.respond = lambda _: answer(503) if next(calls) == 0 else OK
    site.land_units("a")
    # A pause of half a second, and the message's own: a few seconds.
    destinations = open_destinations(("edge",), client_secret=Secret(SECRET), edge_url=site.confidence.edge_url)
    with own_outbox(database) as outbox, Courier(destinations) as courier, Forwarder(outbox, courier, stop=site.stop):
        pass
    assert site.states()["delivered"] == 1


def test_a_forwarder_leaves_what_nobody_takes(site: Site, database: str) -> None:
    """When its patience ends the rest stays for the next run, and the drain has not failed."""
    site.confidence.respond = lambda _: NOTHING
    site.land_units("a")
    with own_outbox(database) as outbox, Forwarder(outbox, site.courier(), stop=site.stop, patience_s=0.1):
        pass
    assert site.states() == {"waiting": 1, "failed": 1}


def test_a_forwarder_stops_when_told(site: Site, database: str) -> None:
    """What is on its way is finished and written down; nothing new is begun."""

    def stop(_: Received) -> Answer:
        site.stop.set()
        return answer(200, delay_s=0.05)

    site.confidence.respond = stop
    site.land_units(*units(100))
    courier = site.courier(max_bytes=5_000, max_concurrent=1)
    with own_outbox(database) as outbox, Forwarder(outbox, courier, stop=site.stop):
        pass
    assert len(site.confidence.received) == 1
    states = site.states()
    assert states["delivered"] == len(site.confidence.taken_units) > 0
    assert states["delivered"] + states["waiting"] == 100
    assert site.ask("from forwarder") == []


def test_a_forwarder_survives_a_file_that_is_held(site: Site, database: str) -> None:
    """The drain's end is not its failure; the run says so and the next one delivers."""
    site.land_units("a")
    holder = hold_file(database)
    with (
        structlog.testing.capture_logs() as logged,
        Store(database, lock_wait_s=0.1) as store,
        Forwarder(Outbox(store), site.courier(), stop=site.stop, patience_s=0.1),
    ):
        pass
    release(holder)
    assert [event["event"] for event in logged] == ["forwarding.interrupted", "forwarding.finished"]
    assert site.states() == {"waiting": 1}


def test_a_forwarder_that_breaks_says_so_at_the_end(site: Site, database: str) -> None:
    """A mistake of ours does not pass for an empty outbox, nor hide what the drain failed of."""
    site.land_units("a")
    with own_outbox(database) as outbox:
        broken = site.courier()
        broken._threads.shutdown()
        with pytest.raises(RuntimeError, match="shutdown"), Forwarder(outbox, broken, stop=site.stop):
            pass
        with pytest.raises(KeyError), Forwarder(outbox, broken, stop=site.stop):
            raise KeyError


# --- the outbox and its view -----------------------------------------------------------------------------------------


def test_what_a_batch_claims_is_in_the_outbox(site: Site) -> None:
    """Each message that landed, of either form, with its text; records, redeliveries and poison are not."""
    upstream = '{"flagAssigned": [{"resolveId": "r", "flags": [{"flag": "flags/a", "defaultAssignment": {}}]}]}'
    queue = FakeQueue(body(), upstream, record(), body(), "poison")
    answer = queue.pull_messages(QUEUE_ID, visibility_timeout_ms=1000)
    make_stage(site.store.connection)
    for _ in range(2):
        batch = decode(site.store.connection, [answer], now=NOW, keeps_text=True)
        with site.store.transaction() as connection:
            load(connection, batch, is_lake=site.store.is_lake, fills_outbox=True)
    assert site.ask("select text, landed_at, attempt_count from outbox order by text") == [
        (upstream, NOW, 0),
        (body(), NOW, 0),
    ]


def test_a_turn_takes_the_oldest_within_its_bounds(site: Site) -> None:
    """Bytes bound it, but for one message; 0 takes none."""
    for unit in "abcd":
        site.land_units(unit)
        site.clock.passed_s += 1
    outbox = Outbox(site.store)
    [(length,)] = site.ask("select min(strlen(text)) from outbox")
    for max_bytes, expected in ((0, 0), (1, 1), (length, 1), (2 * length, 2), (10**6, 4)):
        turn = outbox.turn(Report(), now=site.clock.now(), max_bytes=max_bytes)
        assert [message.seq for message in turn.messages] == list(range(expected))


def test_texts_leave_the_file_with_their_delivery(site: Site) -> None:
    """The file does not grow with what was forwarded."""
    sizes = []
    for _ in range(12):
        site.land(*(body(busy_request(number, flag_count=30)) for number in range(50)))
        site.forward()
        sizes.append(Path(site.store.database).stat().st_size)
    assert sizes[-1] <= sizes[2]


def test_the_view_says_how_late_what_is(site: Site) -> None:
    """Backlog with its age, deliveries with their lag, failures with their reason, by hour."""
    site.land_units("a")
    site.clock.passed_s = 90
    site.land_units("b", "c")
    site.clock.passed_s = 100
    site.confidence.respond = refuse("b", status=422)
    courier = site.courier()
    site.forward(courier)
    columns = "state, hour, destination, reason, message_count, oldest_landed_at, mean_lag_s, max_lag_s"
    rows = site.ask(f"select {columns} from forwarding")
    hour, at = NOW.replace(minute=0), timedelta(seconds=90)
    assert rows[0] == ("delivered", hour, "edge", None, 2, NOW, 55.0, 100.0)
    assert rows[1][:5] == ("failed", hour, "edge", "answered 422", 3 + 2 + 1)
    assert rows[1][6:] == (None, None)
    assert rows[2][:6] == ("waiting", hour, None, "answered 422", 1, NOW + at)
    assert rows[2][6] == rows[2][7]


def test_the_same_failure_is_warned_of_seldom(site: Site) -> None:
    """Once in half a minute, and its end with how often it failed."""
    answers: list[Answer] = [answer(503)] * 6 + [OK]
    site.confidence.respond = lambda _: answers.pop(0)
    courier = site.courier()
    with structlog.testing.capture_logs() as logged:
        for unit in units(7):
            site.land_units(unit)
            wait_s = site.forward(courier)
            site.clock.passed_s += (wait_s or 0) + 0.001
    events = [event["event"] for event in logged if event["event"].startswith("forwarding.")]
    assert events.count("forwarding.failed") < 6
    assert events[-1] == "forwarding.recovered"
    [recovered] = [event for event in logged if event["event"] == "forwarding.recovered"]
    assert recovered["failure_count"] == 6
