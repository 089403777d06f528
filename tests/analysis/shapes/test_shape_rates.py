"""Simulated trajectories of known shape are mostly called what they are, and seldom S-shaped where they are not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.analysis.shapes.simulated_shapes import CURVES, LOG12, LOG20, PYTHIA, losses
from trajstore.analysis.shapes.forms import Bases
from trajstore.analysis.shapes.model_choice import choose
from trajstore.analysis.shapes.refitting import refitted_rho
from trajstore.analysis.shapes.shapes import Shaper
from trajstore.analysis.statistics.log_steps import Schedule
from trajstore.cli import app

if TYPE_CHECKING:
    from trajstore.store.store import Store

STEPS = {154: PYTHIA, 20: LOG20, 12: LOG12}
NOISES = [(0.1, 0.0), (0.1, 0.8), (0.3, 0.0), (0.3, 0.8)]
"""Standard deviations in nats, with ρ."""
NOT_S = ("scaling law", "flat", "power law", "hump")
S = ("sigmoid, w", "sigmoid, 10-90 %")
SEVERAL = ("two sigmoids", "fall, later hump", "mean loss")
Rates = dict[str, float]


def rates(shapes: list[str]) -> Rates:
    """The share of each shape, and of S-shaped tokens, in percent."""
    found = {shape: 100 * shapes.count(shape) / len(shapes) for shape in set(shapes)}
    return {**dict.fromkeys(("other", "undecided", "late_drop", "power_law"), 0.0), **found} | {
        "S": found.get("sigmoid", 0.0) + found.get("step", 0.0)
    }


def told(count: int, values: np.ndarray) -> list[str]:
    """The shape of each token."""
    return Shaper(Schedule.of(STEPS[count]), values[:, :2048]).fit(values, threads=1)["shape"].to_list()


def together(count: int, n: int, deviation: float, rho: float) -> dict[str, Rates]:
    """Rates by curve, of all curves in one model, n tokens of each."""
    values = [losses(curve, STEPS[count], n, deviation, rho, seed=2) for curve in CURVES]
    shapes = told(count, np.concatenate(values, axis=1))
    return {curve: rates(shapes[i * n : (i + 1) * n]) for i, curve in enumerate(CURVES)}


def least(deviation: float, rho: float) -> float:
    """The share of sigmoids that has to be called S-shaped, in percent."""
    return 70 if (deviation, rho) == (0.3, 0.8) else 80 if deviation == 0.3 else 85


@pytest.mark.parametrize("count", [154, 20])
@pytest.mark.parametrize(("deviation", "rho"), [NOISES[0], NOISES[3]])
def test_shapes_of_one_model(count: int, deviation: float, rho: float) -> None:
    found = together(count, 60, deviation, rho)
    for curve in NOT_S:
        assert found[curve]["S"] <= 5, curve
    for curve in S:
        assert found[curve]["S"] >= least(deviation, rho), curve
    for curve in SEVERAL:
        assert found[curve]["S"] <= (5 if deviation == 0.1 else 10), (curve, "of 60, chance adds 5 %")
    for curve in SEVERAL[:2]:
        assert deviation == 0.3 or found[curve]["other"] >= 70, curve
    assert found["law, late drop"]["S"] <= 5
    assert deviation == 0.3 or found["law, late drop"]["late_drop"] >= (40 if count == 154 else 15)
    assert deviation == 0.3 or found["scaling law"]["power_law"] >= 75


@pytest.mark.parametrize(("count", "rho"), [(154, 0.8), (20, 0.0)])
def test_a_fall_with_a_later_hump_is_no_sigmoid(count: int, rho: float) -> None:
    """Every token has a hump of 3.3 to 8.3 times the noise, so that no other tells how much of it noise is."""
    found = rates(told(count, losses("fall, later hump", STEPS[count], 200, 0.3, rho, seed=3)))
    assert found["S"] <= 5
    assert found["other"] >= 45


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_rho_of_few_checkpoints_is_that_of_the_noise(rho: float) -> None:
    """Two changes are no slow noise."""
    bases = Bases(Schedule.of(LOG20), 0.0)
    for curve in ("two sigmoids", "fall, later hump"):
        values = losses(curve, LOG20, 50, 0.3, rho).T.astype(float)
        assert refitted_rho(bases, values) == pytest.approx(rho, abs=0.25)


@pytest.mark.parametrize("count", [154, 20])
@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_noise_alone_seldom_has_a_bump(count: int, rho: float) -> None:
    """Beside sigmoids fitted to simulated ones, a bump is as rare as is said."""
    bases = Bases(Schedule.of(STEPS[count]), rho)
    values = losses("sigmoid, w", STEPS[count], 600, 0.1, rho, seed=5).T.astype(float)
    fit = choose(bases, values).fits["sigmoid"]
    white, _ = bases.whitened(values)
    share = (bases.bump(fit.shape, fit.left(bases, white)) > bases.largest_bump).mean()
    assert 0.005 < share < 0.09


def test_twelve_steps_call_no_scaling_law_s_shaped() -> None:
    for deviation, rho in (NOISES[0], NOISES[3]):
        found = rates(told(12, losses("scaling law", LOG12, 100, deviation, rho)))
        assert found["S"] <= 5
        assert found["power_law"] >= 30


def test_a_mean_loss_whose_noise_is_small_is_no_sigmoid() -> None:
    """One curve alone: nothing else tells its noise, and no form leaves as little as its checkpoints do."""
    for seed in range(5):
        values = losses("mean loss", PYTHIA, 1, 0.005, 0.5, seed)
        assert told(154, values)[0] in ("other", "undecided")


def test_the_command_on_scaling_laws(store: Store) -> None:
    from tests.conftest import ragged

    dataset = store.add_dataset("laws", ragged((60, 50)))
    values = losses("scaling law", LOG20, dataset.n_losses, 0.1, 0.0)
    for step, row in zip(LOG20.tolist(), values, strict=True):
        store.append(model="law", dataset="laws", step=step, losses=np.maximum(row, 0))
    words = ["shapes", "-s", str(store.path), "-d", "laws", "--json"]
    (row,) = json.loads(CliRunner().invoke(app, words).stdout)["shares"]
    assert row["s_shaped"] <= 0.05
    assert row["power_law"] >= 0.75
    assert row["power_law"] + row["undecided"] + row["line"] >= 0.95


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [154, 20, 12])
@pytest.mark.parametrize("curve", CURVES)
def test_shapes_of_models_of_one_curve(count: int, curve: str) -> None:
    """Each curve in a model of its own, where misfit cannot be told from noise by other tokens; 12 steps only print."""
    for deviation, rho in NOISES:
        found = rates(told(count, losses(curve, STEPS[count], 1000, deviation, rho, seed=1)))
        print(f"| {count} | {curve} | {deviation} | {rho} |", *(f"{found.get(x, 0):.1f} |" for x in PRINTED))
        if curve in NOT_S:
            assert found["S"] <= 5
        elif curve in S and count > 12:
            assert found["S"] >= least(deviation, rho)
        elif curve in SEVERAL and count > 12:
            assert found["S"] <= 5
            assert deviation == 0.3 or found["other"] >= (0 if curve == "mean loss" else 70)
        elif count > 12:
            assert found["S"] <= 5


PRINTED = ("S", "power_law", "late_drop", "other", "undecided")
