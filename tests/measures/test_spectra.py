"""Numbers of spectra are those of closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from trajstore.measures.spectra import decay_exponent, effective_rank, participation_ratio


def test_effective_rank() -> None:
    assert effective_rank(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_rank([5.0, 0, 0]) == 1
    assert effective_rank([1.0, 1, 0, 0]) == pytest.approx(2)  # finite where some are 0
    assert effective_rank([3.0, 1]) == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))
    assert np.isnan(effective_rank([0.0, 0]))


def test_participation_ratio() -> None:
    assert participation_ratio(np.ones(6)) == pytest.approx(6)
    assert participation_ratio([2.0, 0, 0]) == 1
    assert participation_ratio([3.0, 1]) == pytest.approx(1.6)
    assert np.isnan(participation_ratio([0.0]))


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.7])
def test_decay_exponent_of_a_power_law(exponent: float) -> None:
    values = 9 * np.arange(1.0, 200) ** -exponent
    assert decay_exponent(values, 11, 100) == pytest.approx(exponent, abs=1e-12)
    assert decay_exponent(values[:13], 11, 100) == pytest.approx(exponent, abs=1e-12)
    assert np.isnan(decay_exponent(values[:12], 11, 100))
    outside = values.copy()
    outside[:10] *= 50
    outside[100:] = 0
    assert decay_exponent(outside, 11, 100) == pytest.approx(exponent, abs=1e-12)


def test_decay_exponent_against_numpys_weighted_fit() -> None:
    values = np.sort(np.random.default_rng(0).gamma(1, 2, 60))[::-1]
    rank = np.arange(5, 41)
    slope, _ = np.polyfit(np.log(rank), np.log(values[4:40]), 1, w=rank**-0.5)
    assert decay_exponent(values, 5, 40) == pytest.approx(-slope)
