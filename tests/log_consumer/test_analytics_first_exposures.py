"""First exposures are the same however messages land, whenever rolls happen, in a file and in a lake."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from deliveries import NOW, ask
from fake_queue import QUEUE_ID, FakeQueue
from messages import ALLOCATION, AT_MS, DEPLOYMENT, Decided, Fallthrough, body, decided, record, request

from log_consumer import maintain as maintain_module
from log_consumer import rolls
from log_consumer.load import decode, load, make_stage
from log_consumer.maintain import delete_old_rows, maintain
from log_consumer.store import Store

UNITS = [f"unit-{number}" for number in range(12)]
STATES = ["one", "two", "three"]  # one and two share out alike
# By its definition, over all exposures at once: nothing of what the views are made of.
FROM_SCRATCH = """
with
everything as (
    select rule, targeting_key, assignment_id, applied_at, state_etag from exposures
    where rule is not null and targeting_key is not null
    union all
    select rule, targeting_key, assignment_id, applied_at, state_etag from fallthrough_exposures
    where targeting_key is not null
)
select
    rule, targeting_key, min(applied_at), arg_min(assignment_id, (applied_at, assignment_id)),
    if(count(distinct assignment_id) > 1, '__multiple__', any_value(assignment_id))
from everything
group by rule, targeting_key
order by all
"""
KEPT = """
select rule, targeting_key, first_applied_at, first_assignment_id, assignment from first_exposures order by all
"""
# Rows as the epochs are known now; two and one are one when both records are there.
ROWS_FROM_SCRATCH = """
with
everything as (
    select
        rule, targeting_key, if(variant is null, 'client_default', 'variant') as kind, assignment_id, applied_at,
        state_etag
    from exposures
    where rule is not null and targeting_key is not null
    union all
    select rule, targeting_key, 'fallthrough', assignment_id, applied_at, state_etag from fallthrough_exposures
    where targeting_key is not null
),
placed as (
    select everything.* replace (coalesce(first_state_etag, state_etag) as state_etag)
    from everything
    left join allocation_epochs using (rule, state_etag)
),
firsts as (
    select rule, targeting_key, kind, assignment_id, state_etag, min(applied_at) as first_applied_at
    from placed
    group by all
)
select
    *,
    row_number() over (unit order by first_applied_at, assignment_id, state_etag, kind) = 1,
    (
        select count(distinct assignment_id) > 1 from everything
        where everything.rule = firsts.rule and everything.targeting_key = firsts.targeting_key
    )
from firsts
window unit as (partition by rule, targeting_key)
order by all
"""
ROWS = """
select rule, targeting_key, kind, assignment_id, state_etag, first_applied_at, is_first, is_crossover
from unit_exposures order by all
"""


@pytest.fixture(params=["file", "lake"])
def any_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    database = request.getfixturevalue("database" if request.param == "file" else "lake")
    with Store(database, lock_wait_s=2.0) as store:
        make_stage(store.connection)
        yield store


def land(store: Store, *bodies: str) -> None:
    batch = decode(store.connection, [FakeQueue(*bodies).pull_messages(QUEUE_ID, visibility_timeout_ms=1000)], now=NOW)
    with store.transaction() as connection:
        load(connection, batch, is_lake=store.is_lake)


def roll(store: Store) -> None:
    with store.transaction() as connection:
        rolls.roll_forward(connection, rolls.read_open_roll(connection), now=NOW)


def age(store: Store, before_ms: int) -> dict[str, int]:
    before = datetime.fromtimestamp(before_ms / 1000, UTC).replace(tzinfo=None)
    with store.transaction() as connection:
        return delete_old_rows(connection, before=before, now=NOW)


def allocated(state: str, share: float, seq: int) -> str:
    return record(
        isolate=f"record-of-{state}",
        state_etag=state,
        sent_at_ms=AT_MS + seq,
        deployment=DEPLOYMENT | {"finished_at_ms": AT_MS + seq},
        changes=None,
        allocations=[ALLOCATION | {"share": share}],
    )


def make_messages(draw: random.Random, count: int) -> list[str]:
    """A few units that come again and again, some with several assignments or kinds of one, some through a holdout."""

    def decide() -> Decided:
        unit = draw.choice(UNITS)
        assignment_id = f"flags/a/variants/{draw.choice(['on', 'on', 'on', 'off'])}"
        variant = "" if draw.random() < 0.2 else assignment_id
        passed = (Fallthrough(unit=unit),) if draw.random() < 0.3 else ()
        return decided(unit=unit, variant=variant, assignment_id=assignment_id, fallthroughs=passed)

    return [
        body(
            request(decide(), decide(), resolve_id=f"resolve-{seq}", at_ms=AT_MS + draw.randrange(10_000)),
            seq=seq,
            state_etag=draw.choice(STATES),
        )
        for seq in range(count)
    ]


def assert_exact(store: Store) -> None:
    assert ask(store, KEPT) == ask(store, FROM_SCRATCH)
    assert ask(store, ROWS) == ask(store, ROWS_FROM_SCRATCH)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_and_any_roll(any_store: Store, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """After every batch what is known is what all exposures say, whatever was rolled, came late or went with age."""
    draw = random.Random(seed)
    monkeypatch.setattr(rolls, "OPEN_MIN", draw.choice([1, 7, 20]))
    monkeypatch.setattr(maintain_module, "AGED_PART", draw.choice([3, 100]))
    messages = make_messages(draw, 20 if any_store.is_lake else 40) + [
        allocated(state, 0.5 if state != "three" else 0.7, 1) for state in STATES
    ]
    draw.shuffle(messages)
    while messages:
        count = draw.randrange(1, 9)
        land(any_store, *messages[:count], *draw.choices(messages[:count], k=2))
        with any_store.transaction() as connection:
            rolls.roll_if_due(connection, rolls.read_open_roll(connection), now=NOW)
        assert_exact(any_store)
        messages = messages[count:]
        if draw.random() < 0.3:
            age(any_store, AT_MS + draw.randrange(5_000))
            assert_exact(any_store)
    [(roll_count,)] = ask(any_store, "select count(*) from rolls")
    assert roll_count > 0
    assert any(row[4] == "__multiple__" for row in ask(any_store, KEPT))


def test_a_roll_changes_no_row(any_store: Store) -> None:
    """What is open and what was rolled are the same rows, as long as the allocations are known."""
    land(any_store, *(allocated(state, 0.5 if state != "three" else 0.7, 1) for state in STATES))
    messages = make_messages(random.Random(7), 30)
    land(any_store, *messages[15:])
    for part in (messages[:15], []):
        before = ask(any_store, ROWS)
        roll(any_store)
        assert ask(any_store, ROWS) == before
        assert ask(any_store, "select count(*) from touched_units") == [(0,)]
        if part:
            land(any_store, *part)
    keys = [row[:5] for row in ask(any_store, ROWS) if row[0] == ALLOCATION["rule"]]
    assert len(keys) == len(set(keys)) > len({key[1] for key in keys})


def test_a_record_may_land_after_a_roll(any_store: Store) -> None:
    """States that turn out to be of one epoch leave one row, before the next roll and after it."""
    come = [request(decided(unit="both"), at_ms=AT_MS + seq) for seq in range(2)]
    land(any_store, allocated("one", 0.5, 1), body(come[0], state_etag="one"))
    land(any_store, body(come[1], request(decided(unit="late"), at_ms=AT_MS), seq=1, state_etag="two"))
    roll(any_store)
    assert ask(any_store, "select state_etag from unit_exposures order by all") == [("one",), ("two",), ("two",)]
    land(any_store, allocated("two", 0.5, 2))
    for _ in range(2):
        assert ask(any_store, "select targeting_key, state_etag, is_first from unit_exposures order by all") == [
            ("both", "one", True),
            ("late", "one", True),
        ]
        assert_exact(any_store)
        roll(any_store)
    assert ask(any_store, "select count(*) from exposed_units") == [(2,)]
    assert ask(any_store, "select count(*) from touched_units") == [(0,)]


def test_kinds_of_one_assignment_are_told_apart(any_store: Store) -> None:
    """As the shares are: by kind and assignment; where the assignment has no name, by variant too."""
    given = [("flags/a/variants/on", "on"), ("", "on"), ("flags/a/variants/on", ""), ("flags/a/variants/off", "")]
    for seq, (variant, assignment_id) in enumerate(given):
        unit = decided(unit=f"unit-{seq}", variant=variant, assignment_id=assignment_id)
        land(any_store, body(request(unit), seq=seq))
    kinds = "select targeting_key, kind, variant from unit_exposures order by all"
    expected = [
        (f"unit-{seq}", "variant" if variant else "client_default", variant or None)
        for seq, (variant, _) in enumerate(given)
    ]
    assert ask(any_store, kinds) == expected
    roll(any_store)
    assert ask(any_store, kinds) == expected
    assert_exact(any_store)


def test_small_databases_never_roll(any_store: Store) -> None:
    land(any_store, *make_messages(random.Random(1), 20))
    assert ask(any_store, "select count(*) from rolls") == [(0,)]
    assert_exact(any_store)


def test_what_a_unit_is_known_of_ages(any_store: Store) -> None:
    """A unit is forgotten with its exposures, and new when it comes again."""
    land(any_store, body(request(decided(unit="old"), at_ms=AT_MS)))
    roll(any_store)
    maintain(any_store, retention_days=1, now=NOW + timedelta(days=30))
    assert ask(any_store, KEPT) == []
    land(any_store, body(request(decided(unit="old"), at_ms=AT_MS + 40 * 86_400_000), seq=1))
    assert [row[1] for row in ask(any_store, KEPT)] == ["old"]


def test_a_unit_that_goes_on_is_known_by_what_is_left(any_store: Store) -> None:
    """It stays in the experiment, with a first row, and crosses over only in what is left, whatever was rolled."""
    land(any_store, allocated("one", 0.5, 1), allocated("three", 0.7, 2))
    off = "flags/a/variants/off"
    come = [
        (request(decided(unit="goes on"), decided(unit="moves on"), decided(unit="new variant"), at_ms=AT_MS), "one"),
        (request(decided(unit="moves on"), decided(unit="goes on"), at_ms=AT_MS + 2_000), "three"),
        (request(decided(unit="new variant", variant=off, assignment_id=off), at_ms=AT_MS + 2_000), "one"),
        (request(decided(unit="goes on"), at_ms=AT_MS + 3_000), "three"),
    ]
    for seq, (made, state) in enumerate(come):
        land(any_store, body(made, seq=seq, state_etag=state))
        if seq == 2:
            roll(any_store)
    assert age(any_store, AT_MS + 1_000)["exposed_units"] == 3
    for _ in range(2):
        assert ask(
            any_store, "select targeting_key, state_etag, is_first, is_crossover from unit_exposures order by all"
        ) == [
            ("goes on", "three", True, False),
            ("moves on", "three", True, False),
            ("new variant", "one", True, False),
        ]
        assert_exact(any_store)
        roll(any_store)


def test_the_unit_of_an_exposure_may_be_missing(any_store: Store) -> None:
    """Neither a rule without a unit nor a flag without a rule is anybody's first exposure."""
    land(any_store, body(request(decided(unit=None), Decided(reason="NO_SEGMENT_MATCH", unit="somebody"))))
    assert ask(any_store, KEPT) == []
