"""R̂ and effective draws are those of closed forms and of independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from trajstore.measures.llc.diagnostics import effective_sample_size, r_hat


def ar1(rho: float, chains: int, draws: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(chains, draws + 500))
    return lfilter([1], [1, -rho], noise, axis=1)[:, 500:]


def test_r_hat_by_its_formula() -> None:
    draw = np.random.default_rng(0)
    chains = draw.normal(size=(3, 41)) + np.array([[0.0], [0.3], [1.0]])
    halves = [half for chain in chains for half in (chain[:20], chain[21:])]
    n = 20
    w = np.mean([np.var(half, ddof=1) for half in halves])
    b = n * np.var([np.mean(half) for half in halves], ddof=1)
    assert r_hat(chains) == pytest.approx(np.sqrt(((n - 1) / n * w + b / n) / w))


def test_chains_that_agree_and_that_do_not() -> None:
    chains = np.random.default_rng(1).normal(size=(4, 1000))
    assert r_hat(chains) == pytest.approx(1, abs=0.01)
    assert r_hat(chains + np.arange(4)[:, None]) > 1.3
    assert r_hat(chains[:1] + np.linspace(0, 5, 1000)) > 1.3  # one that drifts
    assert np.isnan(r_hat(chains[:, :3]))
    assert np.isnan(r_hat(np.ones((2, 10))))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_effective_draws_of_a_known_autocorrelation(rho: float) -> None:
    exact = 4 * 10_000 * (1 - rho) / (1 + rho)
    estimates = [effective_sample_size(ar1(rho, 4, 10_000, seed)) for seed in range(10)]
    assert np.mean(estimates) == pytest.approx(exact, rel=0.06)


def test_chains_that_disagree_are_worth_little() -> None:
    chains = ar1(0.0, 4, 500)
    assert effective_sample_size(chains + 10 * np.arange(4)[:, None]) < 20
    assert np.isnan(effective_sample_size(chains[:, :3]))
    assert np.isnan(effective_sample_size(np.ones((2, 10))))
