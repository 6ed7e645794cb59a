"""What the views compute is what scipy and Spotify's own library compute."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from deliveries import ask
from environments import client_python
from experiments import Experiment, enter_messages, plant
from scipy import special, stats

from log_consumer.store import Store

MACROS = Path(__file__).parents[2] / "log_consumer/sql/macros/statistics.sql"
DEGREES = (1, 2, 3, 4, 5, 9, 10, 19, 50, 99, 333)
# Around where one formula takes over from another, and far out.
VALUES = (1e-12, 1e-4, 0.5, 1.0, 3.84, 7.999999, 8.0, 8.000001, 25.0, 70.0, 333.0, 700.0, 1300.0)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connected:
        connected.execute(MACROS.read_text())
        yield connected


def test_chi_square_p_values(connection: duckdb.DuckDBPyConnection) -> None:
    """To 1e-9, and to twelve digits however small they are."""
    pairs = [(value, df) for df in DEGREES for value in (*VALUES, df / 3, float(df), 3.0 * df)]
    connection.execute("create table pairs (chi2 double, df integer)")
    connection.executemany("insert into pairs values ($1, $2)", pairs)
    ours = np.array([p for (p,) in connection.execute("select chi_square_p(chi2, df) from pairs").fetchall()])
    theirs = stats.chi2.sf(*np.array(pairs).T)
    assert np.abs(ours - theirs).max() < 1e-12
    normal = theirs > 1e-290
    assert (np.abs(ours - theirs)[normal] / theirs[normal]).max() < 1e-12


def test_p_values_at_the_edges(connection: duckdb.DuckDBPyConnection) -> None:
    """No deviation is certain, no freedom is no test, and an absurd deviation is no error."""
    asked = "select chi_square_p(0.0, 1), chi_square_p(3.0, 0), chi_square_p(null, 1), chi_square_p(1e9, 2)"
    assert connection.execute(asked).fetchone() == (1.0, None, None, 0.0)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5)])
@pytest.mark.parametrize("unit_count", [0, 10, 1000, 100_000])
def test_e_values(connection: duckdb.DuckDBPyConnection, shares: tuple[float, ...], unit_count: int) -> None:
    """The logarithm of the ratio of two multinomial likelihoods, one of them under a Dirichlet prior."""
    counts = np.random.default_rng(unit_count).multinomial(unit_count, shares)
    prior = 1000 * np.array(shares)
    expected = (
        special.gammaln(prior.sum()) - special.gammaln(prior.sum() + unit_count)
        + (special.gammaln(prior + counts) - special.gammaln(prior) - counts * np.log(shares)).sum()
    )  # fmt: skip
    row = connection.execute("select multinomial_log_e($1, $2, 1000)", [counts.tolist(), list(shares)]).fetchone()
    assert row is not None
    assert row[0] == pytest.approx(expected, abs=1e-8)


def test_wilson_intervals(connection: duckdb.DuckDBPyConnection) -> None:
    z = stats.norm.ppf(0.975)
    asked = "select wilson_bound(37 / 120, 120, $1::double), wilson_bound(37 / 120, 120, -$1::double)"
    row = connection.execute(asked, [z]).fetchone()
    interval = stats.binomtest(37, 120).proportion_ci(method="wilson")
    assert row == pytest.approx((interval.high, interval.low), abs=1e-12)


def test_spotifys_own_library_finds_the_same(store: Store) -> None:
    """Shares and p-value of a sample ratio test on the same units."""
    with store.transaction() as writing:
        plant(writing, Experiment(unit_count=20_000, lost=0.03, shares=(0.6, 0.4)))
        enter_messages(writing)
    rows = ask(store, "select assignment_id, unit_count, observed_share, expected_share from variant_shares")
    given = {"observed": {row[0]: row[1] for row in rows}, "expected": {row[0]: row[3] for row in rows}}
    program = Path(__file__).parent / "spotify_sample_ratio.py"
    done = subprocess.run(
        [client_python("spotify-confidence"), program],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["observed_proportion"] == pytest.approx({row[0]: row[2] for row in rows}, abs=1e-12)
    assert ask(store, "select p_value from srm")[0][0] == pytest.approx(found["p_value"], abs=1e-9)
    assert 0.0 < found["p_value"] < 0.05
