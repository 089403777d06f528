"""Measures of likeness of two sets of losses are those of scipy and numpy; intervals hold on simulated texts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trajstore.analysis.comparison import (
    STATISTICS,
    Similarity,
    compare_losses,
    log_frequency,
    outliers,
    statistics,
)
from trajstore.analysis.statistics.bootstrap import Draws, Interval
from trajstore.errors import BadOption

NO_INTERVAL = Draws(Interval(kind="none"))


def compared(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, unit: np.ndarray | None = None, draws: Draws = NO_INTERVAL
) -> Similarity:
    of = np.zeros(len(x), dtype=np.int64) if unit is None else unit
    return compare_losses(x, y, z, of, "d", int(of.max()) + 1, draws)


def texts(
    rng: np.random.Generator, contexts: int, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Losses of two models and log frequencies, of which a part is the context's."""
    unit = np.repeat(np.arange(contexts), length)
    shared = rng.normal(size=contexts)[unit] + rng.normal(size=len(unit))
    z = rng.normal(size=len(unit))
    x = 5 + shared - z + rng.normal(size=contexts)[unit]
    y = 4 + shared - 2 * z + rng.normal(size=len(unit))
    return x, y, z, unit


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_against_scipy_and_regression(shift: float) -> None:
    x, y, z, unit = texts(np.random.default_rng(0), 30, 20)
    x, z = x + shift, z - shift
    found = compared(x, y, z, unit)
    given = dict(zip(STATISTICS, found.values, strict=True))
    design = np.stack([np.ones(len(z)), z - z.mean()], axis=1)
    rest = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    assert given["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic, rel=1e-9)
    assert given["partial"] == pytest.approx(stats.pearsonr(*rest).statistic, rel=1e-9)
    assert given["rms"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), rel=1e-12)
    assert given["difference"] == pytest.approx(np.mean(x - y), rel=1e-9)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-9)
    assert found.tokens == 600
    assert found.interval == "none"
    assert np.isnan(found.low).all()


def test_ties_and_holes() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 5, (2, 300)).astype(np.float32)
    z = rng.normal(size=300)
    x[:40], y[20:70] = np.nan, np.nan
    found = compared(x, y, z)
    assert found.tokens == 230
    assert found.spearman == pytest.approx(stats.spearmanr(x[70:], y[70:]).statistic)
    assert found.values[0] == pytest.approx(stats.pearsonr(x[70:], y[70:]).statistic)


def test_the_same_losses() -> None:
    x = np.random.default_rng(2).normal(size=200)
    found = compared(x, x, np.arange(200.0), np.arange(200) // 4, Draws(Interval(resamples=100)))
    assert found.values == pytest.approx([1, 1, 0, 0], abs=1e-9)
    assert found.low[:2] == pytest.approx([1, 1], abs=1e-9)


def test_what_does_not_vary_has_no_correlation() -> None:
    flat, x = np.full(50, 3.7), np.arange(50.0)
    found = compared(flat, x, x)
    assert np.isnan(found.values[:2]).all()
    assert np.isnan(found.spearman)
    assert found.values[3] == pytest.approx(3.7 - 24.5)
    assert np.isnan(compared(x, x**2, flat).values[1]), "nor is there anything to take out"


def test_where_frequency_says_all_nothing_is_left_to_correlate() -> None:
    rng = np.random.default_rng(8)
    z, y = rng.normal(size=(2, 2000))
    unit = np.arange(2000) // 25
    for x, other in ((3 - 2 * z, y), (y, 1 - z), (3 - 2 * z, 1 - z), (3 - 2 * z.astype(np.float32), y)):
        found = compared(x, other, z, unit, Draws(Interval(resamples=100)))
        assert np.isnan([found.values[1], found.low[1], found.high[1]]).all()
        assert found.low[0] <= found.values[0] <= found.high[0]
    nearly = z + 1e-3 * y
    rest = nearly - np.polyval(np.polyfit(z, nearly, 1), z)
    expected = stats.pearsonr(rest, y - np.polyval(np.polyfit(z, y, 1), z)).statistic
    assert compared(nearly, y, z).values[1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("contexts", "kind"), [(80, "bootstrap"), (20, "jackknife")])
def test_intervals_cover(contexts: int, kind: str) -> None:
    """Of 200 simulated sets of texts, 95 % intervals should cover the value of a very large one in about 190."""
    large = texts(np.random.default_rng(5), 40_000, 12)
    truth = compared(*large).values
    covered = np.zeros(len(STATISTICS))
    rng = np.random.default_rng(6)
    for seed in range(200):
        found = compared(*texts(rng, contexts, 12), draws=Draws(Interval(resamples=300, seed=seed)))
        assert found.interval == kind
        covered += (found.low <= truth) & (truth <= found.high)
    assert (covered / 200 > 0.9).all(), covered / 200
    assert (covered / 200 < 0.99).all(), covered / 200


def test_the_jackknife_of_a_mean_is_student_s() -> None:
    rng = np.random.default_rng(3)
    x, y, z, unit = texts(rng, 12, 10)
    found = compared(x, y, z, unit, Draws())
    by_context = (x - y).reshape(12, 10).mean(axis=1)
    expected = stats.t.interval(0.95, 11, by_context.mean(), stats.sem(by_context))
    assert (found.low[3], found.high[3]) == pytest.approx(expected)


def test_two_units_have_no_interval() -> None:
    x, y, z, unit = texts(np.random.default_rng(4), 2, 10)
    assert compared(x, y, z, unit, Draws()).interval == "none"


def test_statistics_of_many_at_once() -> None:
    rng = np.random.default_rng(7)
    many = rng.gamma(2, 1, (5, 3, 12))
    assert statistics(many)[2, 1] == pytest.approx(statistics(many[2, 1]), nan_ok=True)


def test_log_frequency_by_hand() -> None:
    assert log_frequency(np.array([7, 3, 7, 7])) == pytest.approx(np.log([0.75, 0.25, 0.75, 0.75]))


def test_outliers_by_hand() -> None:
    difference = np.array([0.1, -3, 2, np.nan, 0, 2, -0.2, 1, 0.3, 0.4, 0.05])
    assert outliers(difference, 0.1).tolist() == [1]
    assert outliers(difference, 0.2).tolist() == [1, 2, 5], "two, and what is equal to the second"
    assert outliers(np.zeros(4), 0.1).tolist() == []
    with pytest.raises(BadOption, match="outliers=0.5"):
        outliers(difference, 0.5)
