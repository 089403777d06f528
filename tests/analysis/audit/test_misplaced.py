"""Checkpoints out of place are found, and nothing in a good run: neither noise, plateaus, nor steps that are alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from trajstore.analysis.audit.misplaced import FEWEST, distances, out_of_place

PYTHIA = [0, *(1 << power for power in range(10)), *range(1000, 143001, 1000)]


def wrong(values: np.ndarray, twins: list[list[int]] | None = None) -> list[int]:
    """Rows of a run's losses that are out of place."""
    return [each.step for each in out_of_place(range(len(values)), distances(values), twins or [])]


def curves(steps: list[int], seed: int = 0, sites: int = 600, noise: float = 0.05) -> np.ndarray:
    """Each token's loss falls along a sigmoid of its own in log step and then stays, with noise at each step."""
    rng = np.random.default_rng(seed)
    middle, width, fall = rng.normal(5, 2, sites), rng.uniform(0.3, 1.5, sites), rng.gamma(2, 2, sites)
    learned = 1 / (1 + np.exp((middle - np.log1p(steps)[:, None]) / width))
    return (11 - fall * learned + noise * rng.standard_normal((len(steps), sites))).astype(np.float32)


def wandering(steps: int, directions: int, seed: int, sites: int = 600) -> np.ndarray:
    """A run that moves for a while and then only wanders, by noise of so many directions that lasts over steps."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((steps, directions))
    for step in range(1, steps):
        noise[step] = 0.6 * noise[step - 1] + 0.8 * noise[step]
    path = np.outer(np.exp(-np.arange(steps) / 5), rng.gamma(2, 2, sites))
    return (path + 0.3 * noise @ rng.standard_normal((directions, sites)) / directions**0.5).astype(
        np.float32
    )


def test_distances_are_root_mean_squares() -> None:
    values = np.random.default_rng(0).gamma(2, 2, (7, 70_001)).astype(np.float32)
    values[4] = values[2]
    found = distances(values)
    assert np.allclose(found, cdist(values.astype(np.float64), values) / 70_001**0.5, rtol=1e-6, atol=1e-7)
    assert found[2, 4] == 0
    assert distances(values[:0]).shape == (0, 0)


def test_figures_by_hand() -> None:
    """Losses that are points on a line, of which the fifth lies beyond the tenth."""
    line = np.arange(12.0)
    line[5] = 10.25
    (found,) = out_of_place(range(100, 112), distances(np.repeat(line[:, None], 3, axis=1)))
    assert (found.step, found.like) == (105, 110)
    # near: of 7.25, 6.25, 4.25, 3.25 the second smallest; far: of the steps 9, 10, 11 (1.25, 0.25, 0.75) the same
    assert found.near == pytest.approx(4.25)
    assert found.far == pytest.approx(0.75)
    assert found.ratio == pytest.approx(0.75 / 4.25)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("steps", [PYTHIA, PYTHIA[::6], PYTHIA[:11], list(range(0, 40_000, 1000))])
def test_a_good_run(steps: list[int], noise: float) -> None:
    """All of Pythia's steps with their long plateau, a few of them, only the log-spaced ones, equal distances."""
    for seed in range(5):
        assert wrong(curves(steps, seed, noise=noise)) == []


@pytest.mark.parametrize(("directions", "alarms"), [(3, 4), (20, 0), (200, 0)])
def test_noise_that_is_near_far_steps_by_chance(directions: int, alarms: int) -> None:
    """Runs of 20 in which a step is called wrong; in few directions most steps are nearest to some far one."""
    assert sum(bool(wrong(wandering(100, directions, seed))) for seed in range(20)) <= alarms


def test_steps_that_are_alike_at_the_beginning() -> None:
    values = curves(PYTHIA)
    values[1] = values[2] = values[0]
    assert wrong(values) == []
    assert wrong(values, [[0, 1, 2]]) == []


@pytest.mark.parametrize(("at", "holds"), [(20, 100), (140, 12), (5, 60), (153, 11), (0, 80), (90, 9)])
def test_a_step_that_holds_another(at: int, holds: int) -> None:
    """Scored again, so that its losses are not to the bit those of the other; or of a step that is not there."""
    values = curves(PYTHIA)
    values[at] = values[holds] + 1e-4
    assert wrong(values) == [at]
    values[at] = curves([PYTHIA[holds] + 500])[0]
    assert wrong(values) == [at]


def test_two_that_were_exchanged() -> None:
    values = curves(PYTHIA)
    values[[15, 130]] = values[[130, 15]]
    assert wrong(values) == [15, 130]


def test_losses_of_no_step_at_all() -> None:
    """Weights put together from two checkpoints give losses as before training or worse."""
    values = curves(PYTHIA)
    values[60] = np.random.default_rng(1).normal(11, 1, values.shape[1])
    assert wrong(values) == [60]


def test_of_twins_the_one_out_of_place_is_named() -> None:
    values = curves(PYTHIA)
    values[[30, 70]] = values[12]
    assert wrong(values, [[12, 30, 70]]) == [30, 70]


def test_one_checkpoint_under_most_steps() -> None:
    """Every second step holds the last one's weights; the good ones between are not called wrong."""
    values = curves(PYTHIA)
    late = list(range(1, 153, 2))
    values[late] = values[153]
    found = wrong(values, [[*late, 153]])
    assert len(found) > 20
    assert set(found) < set(late)


def test_of_few_steps_nothing_is_said() -> None:
    line = np.repeat(np.arange(FEWEST - 1.0)[:, None], 3, axis=1)
    line[1] = 6.2
    assert wrong(line) == []
    assert out_of_place([], np.zeros((0, 0))) == []


def test_a_real_training_run() -> None:
    """A tiny model learns a fixed text, and its noise at a high constant rate is that of training."""
    import torch

    from tests.helpers.tiny_models import neox
    from trajstore.forward.losses import token_losses

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    # Each token follows from the one before with a probability of 0.8.
    following = rng.permutation(64)
    texts = rng.integers(0, 64, (40, 24))
    for position in range(1, 24):
        known = rng.random(40) < 0.8
        texts[known, position] = following[texts[known, position - 1]]
    model, ids = neox(), torch.as_tensor(texts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    rows = []
    for step in range(301):
        if step in (0, 1, 2, 4, 8, 16, 32, 64) or (step and step % 12 == 0):
            rows.append(np.concatenate(token_losses(model, texts[:20])))
        batch = ids[20:][torch.as_tensor(rng.integers(0, 20, 8))]
        optimizer.zero_grad()
        model(batch, labels=batch).loss.backward()
        optimizer.step()
    values = np.array(rows)
    assert values[-1].mean() < values[0].mean() - 0.5
    assert wrong(values) == []
    values[20] = values[3] + np.float32(1e-4)
    assert wrong(values) == [20]
