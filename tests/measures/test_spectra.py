"""Numbers of spectra are those of closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from trajstore.measures.spectra import decay_exponent, effective_rank


def test_effective_rank() -> None:
    assert effective_rank(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_rank([5.0, 0, 0]) == 1
    assert effective_rank([1.0, 1, 0, 0]) == pytest.approx(2)  # finite where some are 0
    assert effective_rank([3.0, 1]) == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))
    assert np.isnan(effective_rank([0.0, 0]))


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
