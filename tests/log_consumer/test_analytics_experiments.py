"""Experiments with a known truth: defects are found by their own check, and what has none raises no alarm."""

from __future__ import annotations

from datetime import datetime

import pytest
from deliveries import ask
from experiments import HOURS, Experiment, enter_messages, lose_messages, plant

from log_consumer.store import Store

CHECKS = ("shares", "crossovers", "leaks", "bots", "late", "delivery")
ALPHA = 0.05
PEEKS = f"""
with hourly as (select rule, assignment_id, hour, sum(unit_count) as n from unit_counts group by all),
cumulated as (
    select rule, assignment_id, hour, sum(n) over (partition by rule, assignment_id order by hour) as n from hourly
),
looks as (
    select rule, hour, chi_square_p(sum((n - whole / 2) ** 2 / (whole / 2)), 1) as p
    from (select *, sum(n) over (partition by rule, hour) as whole from cumulated)
    group by rule, hour
)
select count(distinct rule) from looks where p < {ALPHA}
"""


def make(store: Store, *experiments: Experiment, lost: dict[str, range] | None = None) -> None:
    """`lost` are messages that never arrived: numbers by isolate."""
    with store.transaction() as connection:
        for experiment in experiments:
            plant(connection, experiment)
        enter_messages(connection)
        for isolate, numbers in (lost or {}).items():
            lose_messages(connection, isolate, numbers)


def test_what_has_no_defect_raises_no_alarm(store: Store) -> None:
    """200 experiments: false alarms at most at the nominal rate, also of who looks every hour for two weeks."""
    make(store, Experiment(count=200, unit_count=2000))
    [(tested, single, sequential)] = ask(
        store,
        f"select count(*), count(*) filter (p_value < {ALPHA}), "
        f"(select count(distinct rule) from srm_sequential where p_value < {ALPHA}) from srm",
    )
    assert tested == 200
    assert 2 <= single <= 20  # 10 are to be expected
    assert sequential <= ALPHA * 200
    assert ask(store, PEEKS)[0][0] > 2 * ALPHA * 200  # who looks every hour at the plain test is misled
    assert ask(store, "select count(*) from experiment_health where verdict = 'alarm'") == [(0,)]
    assert ask(store, "select count(*) from checks where rule is not null") == [(200 * len(CHECKS),)]


DEFECTS = {
    "shares": (Experiment(unit_count=400_000, lost=0.02), "alarm"),
    "crossovers": (Experiment(unit_count=20_000, crossing=0.02), "alarm"),
    "leaks": (Experiment(unit_count=20_000, leaked=0.002), "alarm"),
    "bots": (Experiment(unit_count=20_000, bots=0.1), "warning"),
    "late": (Experiment(unit_count=20_000, late=0.1), "alarm"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_by_its_own_check(store: Store, name: str) -> None:
    """And is blamed on no other."""
    experiment, status = DEFECTS[name]
    make(store, experiment)
    found = dict(zip(CHECKS, ask(store, f"select {', '.join(CHECKS)} from experiment_health")[0], strict=True))
    assert found == dict.fromkeys(CHECKS, "ok") | {name: status}


def find_checks(store: Store) -> dict[str, str]:
    """The status of each check of the only rule."""
    [found] = ask(store, f"select {', '.join(CHECKS)} from experiment_health")
    return dict(zip(CHECKS, found, strict=True))


def test_lost_messages(store: Store) -> None:
    """Their numbers are missed, and nobody's shares are doubted for what was in them."""
    numbers = range(1, HOURS, 3)
    make(store, Experiment(unit_count=20_000), lost={"isolate-3": numbers})
    assert find_checks(store) == dict.fromkeys(CHECKS, "ok") | {"delivery": "alarm"}
    assert ask(store, "select sum(missing_count) from delivery_health") == [(len(numbers),)]


def test_what_an_isolate_sent_last_is_not_missed(store: Store) -> None:
    """Isolates end all the time, so one that fell silent is no defect; what it may have sent is bounded, and said.

    One that no message arrived of leaves no trace at all.
    """
    experiment = Experiment(unit_count=20_000)
    make(store, experiment, lost={"isolate-3": range(100, HOURS), "isolate-4": range(HOURS)})
    assert find_checks(store) == dict.fromkeys(CHECKS, "ok")
    [(expected, missing, unconfirmed)] = ask(
        store,
        "select sum(expected_count), sum(missing_count), sum(unconfirmed_count) from delivery_health",
    )
    assert (expected, missing, unconfirmed) == (5 * HOURS + 100, 0, 6)
    [(reason,)] = ask(store, "select reason from checks where name = 'delivery' and rule is null")
    assert reason == f"0 of {expected:,} messages never arrived, and up to 6 that isolates may have sent last"


def test_messages_are_missed_long_after_the_last_new_unit(store: Store) -> None:
    """A rule's delivery is that of all its exposures: all units were new in the first hour, and came back since."""
    make(store, Experiment(unit_count=2000), lost={"isolate-3": range(50, 250), "isolate-4": range(50, 250)})
    with store.transaction() as connection:
        connection.execute(
            "insert into exposures by name select * replace (timestamp '2026-11-01 00:30:00' as applied_at, "
            "timestamp '2026-11-01 01:00:00' as landed_at, 0 as seq) from exposures"
        )
    assert ask(store, "select count(distinct hour), max(hour) from unit_counts") == [
        (1, datetime.fromisoformat("2026-11-01"))
    ]
    assert find_checks(store)["delivery"] == "alarm"
    [(reason,)] = ask(store, "select reason from checks where name = 'delivery' and rule is not null")
    assert reason.startswith("400 of 2,352 messages never arrived")


def test_a_rule_is_not_blamed_for_the_time_before_and_after_it(store: Store) -> None:
    """Messages that others lost before its first exposure, or after its last, are none of its own."""
    make(store, Experiment("early", unit_count=2000), Experiment("late", unit_count=2000))
    with store.transaction() as connection:
        connection.execute(
            "delete from exposures where (flag = 'flags/early') <> (applied_at < timestamp '2026-11-07 00:00:00')"
        )
        lose_messages(connection, "isolate-3", range(200, 240))
    assert ask(store, "select flag, delivery from experiment_health order by flag") == [
        ("flags/early", "ok"),
        ("flags/late", "alarm"),
    ]


def test_a_change_of_allocation_is_no_mismatch(store: Store) -> None:
    """A plain chi-square test against the shares in force today sounds an alarm; what epochs expect does not."""
    make(store, Experiment(unit_count=20_000, shares=(0.9, 0.1), after=(0.5, 0.5)))
    assert ask(store, "select verdict, shares, crossovers from experiment_health") == [("ok", "ok", "ok")]
    [(plain,)] = ask(
        store,
        "select chi_square_p(sum((n - whole / 2) ** 2 / (whole / 2)), 1) from (select count(*) as n, "
        "sum(count(*)) over () as whole from first_exposures group by first_assignment_id)",
    )
    assert plain < 1e-100
    assert ask(store, "select count(*), min(verdict), max(verdict) from srm_by where dimension = 'epoch'") == [
        (2, "ok", "ok")
    ]


def test_units_that_a_change_moved_are_apart(store: Store) -> None:
    """Who has another variant because somebody changed the shares is counted, and no defect."""
    make(store, Experiment(unit_count=20_000, shares=(0.9, 0.1), after=(0.5, 0.5)))
    with store.transaction() as connection:
        connection.execute(
            "insert into exposures by name select * replace (timestamp '2026-11-14' as applied_at, "
            "'state-2' as state_etag, 'treatment' as assignment_id) from exposures "
            "where assignment_id = 'control' and state_etag = 'state-1' limit 3000"
        )
    assert ask(store, "select cause, count(*) from crossovers group by all") == [("allocation_change", 3000)]
    assert ask(store, "select shares, crossovers from experiment_health") == [("ok", "ok")]


def test_proportions_that_change_with_buckets_given_out_anew_are_not_compared(store: Store) -> None:
    """Units that came before and were given nothing are among the first exposures then, in nobody's proportion."""
    make(store, Experiment(unit_count=20_000, shares=(0.1, 0.2), after=(0.8, 0.2)))
    assert ask(store, "select epoch_number, is_comparable from allocation_epochs order by 1") == [(1, True), (2, False)]
    [(compared, left_out)] = ask(store, "select unit_count, incomparable_count from srm")
    assert compared > 0
    assert left_out > 0


def test_a_variant_without_units_is_there(store: Store) -> None:
    """With 0, and as a mismatch."""
    make(store, Experiment(unit_count=5000, lost=1.0))
    assert ask(store, "select assignment_id, unit_count = 0 from variant_shares") == [
        ("control", False),
        ("treatment", True),
    ]
    assert ask(store, "select srm.verdict, shares from srm join experiment_health using (rule)") == [
        ("mismatch", "alarm")
    ]


def forget_states(store: Store, *, which: str = "true") -> None:
    """Leave exposures as upstream's messages would: they say no state."""
    with store.transaction() as connection:
        connection.execute(f"update exposures set state_etag = null where {which}")


def test_an_unknown_allocation_is_said(store: Store) -> None:
    """Nothing is compared, and nothing that needs a state is called well."""
    make(store, Experiment(crossing=0.5))
    forget_states(store)
    [(crossed,)] = ask(store, "select count(*) from crossovers where cause = 'unknown'")
    assert 1200 < crossed < 1800
    assert ask(store, "select verdict, unknown_state_count from srm") == [("too_few", 3000)]
    assert ask(store, "select verdict from experiment_health") == [("unknown",)]
    assert find_checks(store) == dict.fromkeys(CHECKS, "ok") | dict.fromkeys(
        ("shares", "crossovers", "leaks"), "unknown"
    )
    [(reason,)] = ask(store, "select reason from experiment_health")
    several = "0 of 3,000 units were given several assignments by one allocation"
    assert reason.split("; ") == [
        f"{several}, {crossed:,} more by states that are unknown",
        "0 units have an assignment that nobody should have, of 3,000 it cannot be told: their states are unknown",
        "too few units to tell: 0 (left out: 3,000 of unknown states)",
    ]


def test_a_few_unknown_states_leave_the_rest_to_be_judged(store: Store) -> None:
    """They are counted as left out; a defect of the others is still one."""
    make(store, Experiment(unit_count=20_000, crossing=0.02, bots=0.01, leaked=0.002))
    forget_states(store, which="hash(targeting_key) % 100 = 0")
    assert find_checks(store) == dict.fromkeys(CHECKS, "ok") | {"crossovers": "alarm", "leaks": "alarm"}
    [(unknown, bots, leaked)] = ask(store, "select unknown_state_count, bot_count, leaked_count from srm")
    assert min(unknown, bots, leaked) > 0
    [(reason,)] = ask(store, "select reason from checks where name = 'shares'")
    assert reason.endswith(f" (left out: {unknown:,} of unknown states, {bots:,} bots, {leaked:,} without a share)")


def test_crossovers_of_unknown_states_are_not_called_well(store: Store) -> None:
    """As long as they could be defects: one that comes rarely is no more than it would be with states."""
    make(store, Experiment("rare", crossing=0.001), Experiment("often", crossing=0.02))
    forget_states(store)
    assert ask(store, "select flag, crossovers from experiment_health order by flag") == [
        ("flags/often", "unknown"),
        ("flags/rare", "ok"),
    ]


def test_settings_are_variables_of_the_session(store: Store) -> None:
    """Also where a day begins."""
    make(store, Experiment())
    days = "select starts_at from exposures_over_time where grain = 'day' and extract(hour from starts_at) = 6 limit 1"
    assert ask(store, days) == []
    store.connection.execute("set variable day_begins = interval 6 hours; set variable srm_min_units = 1000000")
    assert len(ask(store, days)) == 1
    assert ask(store, "select verdict from srm") == [("too_few",)]
