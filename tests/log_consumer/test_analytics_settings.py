"""The setting ANALYSIS: what the views take for granted, for the commands that ask them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from deliveries import ask
from experiments import Experiment, enter_messages, plant

from log_consumer.analysis import VARIABLES
from log_consumer.cli import main
from log_consumer.query import query
from log_consumer.report import gather
from log_consumer.report.snapshot import take_snapshot
from log_consumer.store import Reader, Store

Run = Callable[..., str]


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with a value of ANALYSIS; what it printed, or its error."""
    for name in ("ALERT_WEBHOOK_URL", "AWS_LAMBDA_FUNCTION_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE", str(store.database))

    def run(analysis: str, *arguments: str, code: int = 0) -> str:
        monkeypatch.setenv("ANALYSIS", analysis)
        assert main(arguments) == code
        printed = capsys.readouterr()
        return printed.out or printed.err

    return run


@pytest.fixture
def planted(store: Store) -> None:
    """An experiment that lost a tenth of a variant, and of which some twenty units have several."""
    with store.transaction() as connection:
        plant(connection, Experiment(unit_count=20_000, lost=0.1, crossing=0.001))
        enter_messages(connection)


def test_each_column_can_be_set(store: Store) -> None:
    """But the time of asking; and what is set is what the view has."""
    [*columns] = (name for (name, *_) in ask(store, "describe analysis_settings"))
    assert list(VARIABLES) == [name for name in columns if name != "as_of"]
    for name, variable in VARIABLES.items():
        for value in (variable.low, variable.high):
            answer = query(store.database, f"select {name} from analysis_settings", analysis={name: value})
            assert answer.rows == [(value,)]


@pytest.mark.usefixtures("planted")
def test_the_commands_ask_with_them(run: Run, tmp_path: Path) -> None:
    """One setting for all three that ask; without it they have the defaults."""
    assert "units are not shared out as allocated" in run("", "check", code=1)
    assert "shares" not in run("srm_min_units=1000000", "check")
    page = ("report", "--json", "--out", str(tmp_path / "report.html"))
    assert json.loads(run("", *page))["verdicts"] == {"alarm": 1}
    assert json.loads(run("srm_min_units=1000000, crossover_min_units=1000000", *page))["verdicts"] == {"unknown": 1}
    asked = ("sql", "select srm_alpha, epoch(day_begins) / 60 as minutes from analysis_settings", "--format", "csv")
    assert run(" srm_alpha = 0.0001,day_begins=-5 hours -30 minutes,", *asked) == "srm_alpha,minutes\n0.0001,-330.0\n"
    assert run("", *asked) == "srm_alpha,minutes\n0.001,0.0\n"


@pytest.mark.usefixtures("planted")
def test_few_crossovers_are_none(run: Run) -> None:
    """Below a number that can be set, whatever share of all units it is."""
    status = ("sql", "select status from checks where name = 'crossovers'", "--format", "csv")
    assert run("crossover_warning=0.0001,crossover_alarm=0.0001", *status) == "status\nalarm\n"
    assert run("crossover_warning=0.0001,crossover_alarm=0.0001,crossover_min_units=100", *status) == "status\nok\n"


@pytest.mark.parametrize(
    "begins", ["0 hours", "6 hours", "18 hours 30 minutes", "-5 hours -45 minutes", "1 hour 7 seconds"]
)
def test_days_begin_at_any_moment(run: Run, store: Store, begins: str) -> None:
    """Each exposure and each new unit is in the day that it came in, and in the hour; in both they are all."""
    with store.transaction() as connection:
        plant(connection, Experiment(unit_count=5000, crossing=0.1))
        enter_messages(connection)
    counted = "select assignment_id, starts_at, sum(exposure_count) as exposures, sum(new_unit_count) as units"
    for grain, begin in {"hour": "0 hours", "day": begins}.items():
        starts_at = f"date_trunc('{grain}', moment - interval '{begin}') + interval '{begin}'"
        expected = query(
            store.database,
            "select assignment_id, starts_at, sum(exposures), sum(units) from ("
            f"  select assignment_id, applied_at as moment, {starts_at} as starts_at, 1 as exposures, 0 as units"
            "  from exposures union all"
            f"  select first_assignment_id, first_applied_at as moment, {starts_at}, 0, 1 from first_exposures"
            ") group by all order by all",
        )
        asked = f"{counted} from exposures_over_time where grain = '{grain}' group by all order by all"
        found = json.loads(run(f"day_begins={begins}", "sql", asked, "--format", "json"))
        assert [list(row.values()) for row in found] == [
            [assignment, moment.isoformat(), exposures, units] for assignment, moment, exposures, units in expected.rows
        ]
        assert sum(row["units"] for row in found) == 5000


def test_the_charts_of_the_report_leave_out_no_day(store: Store) -> None:
    """What came before the first day's boundary is in the day before."""
    with store.transaction() as connection:
        plant(connection, Experiment(unit_count=5000))
        enter_messages(connection)
    now = datetime(2026, 11, 15)  # noqa: DTZ001 - the database's timestamps are UTC without saying so
    reading = Reader(store.database, analysis={"day_begins": timedelta(hours=18, minutes=30)})
    with reading as reader, reader.look() as connection, take_snapshot(connection, now=now):
        [health] = gather.ask(connection, "experiments").rows
        experiment = gather.gather_experiment(connection, health, since=None, now=now)
    assert (experiment.grain, experiment.since) == ("day", datetime(2026, 10, 31, 18, 30))  # noqa: DTZ001
    assert sum(row["exposure_count"] for row in experiment.answers["exposures"].rows) == 5000
    assert sum(row["new_unit_count"] for row in experiment.answers["units"].rows) == 5000


WRONG = {
    "srm_alfa=0.1": "ANALYSIS: there is no srm_alfa (but day_begins, srm_alpha,",
    "as_of=2026-11-01": "ANALYSIS: there is no as_of (",
    "=0.1": "ANALYSIS: there is no variable without a name (",
    "srm_alpha": "ANALYSIS: srm_alpha must be a number from 0 to 1",
    "srm_alpha=5%": "ANALYSIS: srm_alpha must be a number from 0 to 1",
    "srm_alpha=nan": "ANALYSIS: srm_alpha must be a number from 0 to 1",
    "late_alarm=1.1": "ANALYSIS: late_alarm must be a number from 0 to 1",
    "srm_min_units=1.5": "ANALYSIS: srm_min_units must be a whole number, 0 or more",
    "stale_days=-1": "ANALYSIS: stale_days must be a whole number from 0 to 36500",
    "day_begins=noon": "ANALYSIS: day_begins must be an interval such as 6 hours, of at most a day",
    "day_begins=1 month": "ANALYSIS: day_begins must be an interval such as 6 hours, of at most a day",
    "late_after=-1 hour": "ANALYSIS: late_after must be an interval such as 2 hours",
    "stale_days=1,stale_days=2": "ANALYSIS: stale_days is given twice",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_named(run: Run, wrong: str) -> None:
    error = run(f"{wrong},bot_warning=much", "check", code=2)
    assert error.startswith("error: wrong settings: ")
    assert WRONG[wrong] in error
    assert "ANALYSIS: bot_warning must be a number from 0 to 1" in error
