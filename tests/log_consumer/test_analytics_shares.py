"""Sample ratio tests over several allocation epochs are what they say they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pytest
from deliveries import ask
from experiments import Experiment, enter_messages, plant
from scipy import stats

from log_consumer.store import Store

MACROS = Path(__file__).parents[2] / "log_consumer/sql/macros/statistics.sql"
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

COUNT = 200
# Shares by epoch, and the units that come in it.
CHANGES = {
    "turned round": (((0.9, 0.1), 1000), ((0.1, 0.9), 1000)),
    "a change": (((0.5, 0.5), 1000), ((0.9, 0.1), 1000)),
    "three assignments": (((0.8, 0.1, 0.1), 1000), ((0.1, 0.1, 0.8), 700), ((0.2, 0.6, 0.2), 300)),
    "one stops": (((0.6, 0.2, 0.2), 1000), ((0.1, 0.9, 0.0), 1000)),
}
Epochs = Sequence[tuple[tuple[float, ...], int]]


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connected:
        connected.execute(MACROS.read_text())
        connected.execute(
            "create table cells (subject varchar, epoch_number integer, assignment integer, unit_count bigint, "
            "expected_share double)"
        )
        yield connected


def test_the_form_is_the_one_of_linear_algebra(connection: duckdb.DuckDBPyConnection) -> None:
    """Random epochs, assignments without a share in some, and such as are never shared out with each other."""
    random = np.random.default_rng(3)
    apart = np.array([[0.5, 0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.3, 0.7, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
    sizes = enumerate([2, 2, 3, 3, 4, 6, 6, 9, 12] * 4)
    drawn = [_draw_shares(random, epoch_count=1 + number % 4, assignment_count=size) for number, size in sizes]
    expected = {}
    for number, shares in enumerate([apart, *drawn]):
        counts = np.array([random.multinomial(random.integers(0, 5000), row) for row in shares])
        expected[str(number)] = _quadratic_form(shares, counts)
        _insert(connection, str(number), shares, counts)
    asked = "select subject, chi2, degrees_of_freedom from ratio_tests_of('cells')"
    found = {subject: (chi2 or 0.0, df or 0) for subject, chi2, df in connection.execute(asked).fetchall()}
    assert {subject: df for subject, (_, df) in found.items()} == {key: df for key, (_, df) in expected.items()}
    assert found == {subject: pytest.approx(each, abs=1e-9) for subject, each in expected.items()}
    assert expected["0"][1] == 2


@pytest.mark.parametrize("assignment_count", [2, 3, 20])
def test_one_epoch_is_pearsons_test(connection: duckdb.DuckDBPyConnection, assignment_count: int) -> None:
    random = np.random.default_rng(assignment_count)
    shares = random.dirichlet(np.ones(assignment_count), size=1)
    counts = random.multinomial(3000, shares)
    _insert(connection, "one", shares, counts)
    pearson = stats.chisquare(counts[0], 3000 * shares[0])
    row = connection.execute("select chi2, p_value from ratio_tests_of('cells')").fetchone()
    assert row == pytest.approx((pearson.statistic, pearson.pvalue), abs=1e-9)


@pytest.mark.parametrize("name", CHANGES)
def test_without_a_defect_p_values_are_uniform_whatever_changes(store: Store, name: str) -> None:
    """200 experiments: as many false alarms as the test says there are, no more and no less."""
    with store.transaction() as connection:
        _make_experiments(connection, CHANGES[name])
        asked = "select p_value from srm_of('counts', 'shares')"
        p_values = np.array([p for (p,) in connection.execute(asked).fetchall()])
    assert len(p_values) == COUNT
    assert 2 <= (p_values < 0.05).sum() <= 20  # 10 are to be expected
    assert 24 <= (p_values < 0.2).sum() <= 56  # 40
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_a_slice_is_tested_as_the_whole(store: Store) -> None:
    """Where a value names all units, also one that is not known, srm_by says what srm does; and so does each epoch."""
    with store.transaction() as connection:
        plant(connection, Experiment(unit_count=5000, shares=(0.9, 0.1), after=(0.1, 0.9)))
        connection.execute("update exposures set country = null")
        enter_messages(connection)
    [whole] = ask(store, "select chi2, degrees_of_freedom, p_value, max_deviation from srm")
    columns = "chi2, degrees_of_freedom, p_value, max_deviation"
    for dimension in ("country", "source"):
        [each] = ask(store, f"select {columns} from srm_by where dimension = '{dimension}'")
        assert each == pytest.approx(whole)
    [(chi2,)] = ask(
        store,
        "with cells as (select epoch_number, assignment_id, sum(unit_count) as n from unit_counts group by all) "
        "select sum((n - 0.9 * whole) ** 2 / (0.09 * whole)) from ("
        "  select *, sum(n) over (partition by epoch_number) as whole from cells"
        ") where (epoch_number, assignment_id) in ((1, 'control'), (2, 'treatment'))",
    )
    assert ask(store, "select sum(chi2) from srm_by where dimension = 'epoch'") == [(pytest.approx(chi2),)]


def test_assignments_that_never_met_have_nothing_to_compare(store: Store) -> None:
    """All units to one, later all to the other: no epoch shared out both, and neither is called well or wrong."""
    with store.transaction() as connection:
        _make_experiments(connection, (((1.0, 0.0), 1000), ((0.0, 1.0), 1000)), count=1)
        columns = "assignment_count, unit_count, chi2, degrees_of_freedom, p_value, verdict"
        rows = connection.execute(f"select {columns} from srm_of('counts', 'shares')").fetchall()
    assert rows == [(2, 2000, None, None, None, "nothing_to_compare")]


def _draw_shares(random: np.random.Generator, *, epoch_count: int, assignment_count: int) -> Floats:
    """A row for each epoch; two fifths of its shares are 0, and what is left adds up to 1."""
    shares = random.dirichlet(np.ones(assignment_count), size=epoch_count)
    shares[(random.random(shares.shape) < 0.4) & (shares < shares.max(axis=1, keepdims=True))] = 0.0
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _quadratic_form(shares: Floats, counts: Counts) -> tuple[float, int]:
    """d' V^+ d, and the rank of V."""
    sizes = counts.sum(axis=1)
    deviations = (counts - sizes[:, None] * shares).sum(axis=0)
    spread = sum(size * (np.diag(row) - np.outer(row, row)) for size, row in zip(sizes, shares, strict=True))
    inverse = np.linalg.pinv(spread, rcond=1e-11, hermitian=True)
    return float(deviations @ inverse @ deviations), int(np.linalg.matrix_rank(spread, tol=1e-6, hermitian=True))


def _insert(connection: duckdb.DuckDBPyConnection, subject: str, shares: Floats, counts: Counts) -> None:
    epochs, assignments = np.nonzero(shares)
    connection.executemany(
        "insert into cells values ($1, $2, $3, $4, $5)",
        [
            (subject, int(epoch), int(each), int(counts[epoch, each]), float(shares[epoch, each]))
            for epoch, each in zip(epochs, assignments, strict=True)
        ],
    )


def _make_experiments(connection: duckdb.DuckDBPyConnection, epochs: Epochs, *, count: int = COUNT) -> None:
    """The tables `counts` and `shares`, as unit_counts and epoch_shares have them, of experiments without a defect."""
    random = np.random.default_rng(11)
    connection.execute(
        "create temp table shares as select 'flags/f-' || rule as flag, flag || '/rules/r' as rule, "
        "unnest($1::integer[]) as epoch_number, 'variant' as kind, 'a' || unnest($2::integer[]) as assignment_id, "
        "assignment_id as variant, unnest($3::double[]) as share, share as expected_share from range($4) as t(rule)",
        [
            [number for number, (shares, _) in enumerate(epochs, 1) for _ in shares],
            [each for shares, _ in epochs for each in range(len(shares))],
            [share for shares, _ in epochs for share in shares],
            count,
        ],
    )
    drawn = [random.multinomial(size, shares, size=count) for shares, size in epochs]
    connection.execute(
        "create temp table counts as select 'flags/f-' || unnest($1::integer[]) as flag, flag || '/rules/r' as rule, "
        "unnest($2::integer[]) as epoch_number, 'variant' as kind, 'a' || unnest($3::integer[]) as assignment_id, "
        "'counted' as standing, unnest($4::bigint[]) as unit_count, 0 as crossover_count",
        [
            [rule for units in drawn for rule, row in enumerate(units) for _ in row],
            [number for number, units in enumerate(drawn, 1) for row in units for _ in row],
            [each for units in drawn for row in units for each, _ in enumerate(row)],
            [int(n) for units in drawn for row in units for n in row],
        ],
    )
    connection.execute("delete from counts where unit_count = 0")
