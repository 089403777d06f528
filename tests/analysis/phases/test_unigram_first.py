"""The phases of «unigram first» in planted curves: seen where they are, and rarely where they are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trajstore.analysis.phases.unigram_first import FEWEST_CHECKPOINTS, find_unigram_first
from trajstore.analysis.statistics.ar1 import simulate

PYTHIA = np.array([0, *(2**k for k in range(10)), *range(1000, 143_001, 1000)])
KL_MOVE, ENERGY_MOVE = 3.0, 0.5

Curves = tuple[np.ndarray, np.ndarray]


def schedule(number: int) -> np.ndarray:
    """So many of Pythia's steps, as evenly over doublings as they are there."""
    places = np.log2(np.maximum(PYTHIA, 0.5))
    chosen = list(range(len(PYTHIA)))
    while len(chosen) > number:
        gaps = places[chosen[2:]] - places[chosen[:-2]]
        del chosen[1 + int(gaps.argmin())]
    return PYTHIA[chosen]


def step_at(steps: np.ndarray, middle: float, width: float = 2.5) -> np.ndarray:
    """A sigmoid from 0 to 1 around 2 ** middle, most of it within `width` doublings."""
    risen: np.ndarray = 1 / (1 + np.exp(-4 * (np.log2(np.maximum(steps, 0.5)) - middle) / width))
    return risen


def course(steps: np.ndarray, rng: np.random.Generator) -> dict[str, tuple[Curves, tuple[int, ...]]]:
    """KL and energy of runs, and the phases that they do not have."""
    falls, rises, again = 5.5 + rng.uniform(-1, 1), 10 + rng.uniform(-1, 1), 14 + rng.uniform(-0.5, 0.5)
    width = rng.uniform(1.5, 4)
    fall, rise = -4.7 * step_at(steps, falls, width), KL_MOVE * step_at(steps, rises, width)
    up, down = 1.2 * step_at(steps, 3), -step_at(steps, rises + 0.3, width)
    last = ENERGY_MOVE * step_at(steps, again, width)
    flat = np.zeros(len(steps))
    return {
        "all": ((fall + rise, up + down + last), ()),
        "flat": ((flat, flat), (1, 2, 3)),
        "the first two": ((fall + rise, up + down), (3,)),
        "KL alone": ((fall + rise, up), (2, 3)),
        "KL rises alone": ((rise, flat), (1, 2, 3)),
        "energy alone": ((fall, up + down + last), (1, 2, 3)),
        "energy over flat KL": ((flat, up + down + last), (1, 2, 3)),
        "KL falls back": ((fall + rise - 2.9 * step_at(steps, again, width), up + down + last), (3,)),
        "both fall": ((-6 * step_at(steps, 8, 8), -step_at(steps, 8, 8)), (1, 2, 3)),
    }


def white(steps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return simulate(len(steps), 2, 0.0, rng)


def correlated(steps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return simulate(len(steps), 2, 0.9, rng)


def heavy(steps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Correlated by 0.8, of innovations with 3 degrees of freedom."""
    noise = rng.standard_t(3, (2, len(steps) + 50)) / np.sqrt(3) * 0.6
    for at in range(1, noise.shape[1]):
        noise[:, at] += 0.8 * noise[:, at - 1]
    return noise[:, 50:]


def late(steps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return simulate(len(steps), 2, 0.5, rng) * (steps > 64)


def early(steps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return simulate(len(steps), 2, 0.5, rng) * (steps < 2048)


NOISES = (white, correlated, heavy, late, early)


def false_share(
    number: int, name: str, noise: Callable[..., np.ndarray], size: float, runs: int
) -> tuple[float, ...]:
    """Share of runs in which an absent phase is seen; noise of the two curves is independent, alike or opposite."""
    rng = np.random.default_rng(5)
    steps = schedule(number)
    seen = np.zeros(3)
    absent = ()
    for run in range(runs):
        (kl, energy), absent = course(steps, rng)[name]
        first, second = noise(steps, rng)
        second = (second, first, -first)[run % 3]
        found = find_unigram_first(steps, kl + size * KL_MOVE * first, energy + size * ENERGY_MOVE * second)
        seen += [phase.answer == "seen" for phase in found]
    return tuple(seen[phase - 1] / runs for phase in absent)


@pytest.mark.parametrize("number", [20, 30, 60])
def test_noise_makes_no_phase(number: int) -> None:
    """In at most one of twenty runs, strong noise too; 9 of 75 are above it by chance once in a thousand times."""
    for noise in NOISES:
        for name in ("flat", "KL rises alone", "energy over flat KL"):
            assert max(false_share(number, name, noise, 0.1, 75)) <= 9 / 75, (noise.__name__, name)


@pytest.mark.slow  # a minute for each number of checkpoints
@pytest.mark.parametrize("number", [15, 20, 30, 60, 154])
def test_noise_rarely_makes_a_phase_in_any_case(number: int) -> None:
    for noise in NOISES:
        for size in (0.01, 0.03, 0.1, 0.3):
            for name in course(PYTHIA, np.random.default_rng(0)):
                shares = false_share(number, name, noise, size, 400)
                assert max(shares, default=0) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 400), (noise, size, name)


@pytest.mark.parametrize(
    ("number", "least"), [(20, (0.2, 0.15, 0.0)), (30, (0.9, 0.9, 0.45)), (60, (0.95, 0.95, 0.65))]
)
def test_phases_are_seen_and_their_borders_covered(number: int, least: tuple[float, ...]) -> None:
    rng = np.random.default_rng(6)
    steps = schedule(number)
    seen, covered = np.zeros(3), []
    for _ in range(60):
        (kl, energy), _ = course(steps, rng)["all"]
        noise = 0.01 * simulate(len(steps), 2, 0.5, rng)
        found = find_unigram_first(steps, kl + KL_MOVE * noise[0], energy + ENERGY_MOVE * noise[1])
        seen += [phase.answer == "seen" for phase in found]
        lowest = steps[kl.argmin()], steps[steps > 200][energy[steps > 200].argmin()]
        for phase, step in ((found[0], lowest[0]), (found[2], lowest[1])):
            if phase.low is not None and phase.high is not None:
                covered.append(phase.low <= step <= phase.high)
    assert (seen / 60 >= least).all()
    assert np.mean(covered) >= 0.95


def exact(name: str, steps: np.ndarray = PYTHIA) -> list[str]:
    (kl, energy), _ = course(steps, np.random.default_rng(5))[name]
    return [phase.answer for phase in find_unigram_first(steps, kl, energy)]


def test_curves_without_noise_answer_what_they_are() -> None:
    expected = {
        "all": (1, 1, 1),
        "flat": (0, 0, 0),
        "the first two": (1, 1, 0),
        "KL alone": (0, 0, 0),
        "KL rises alone": (0, 0, 0),
        "energy alone": (0, 0, 0),
        "energy over flat KL": (0, 0, 0),
        "KL falls back": (1, 1, 0),
        "both fall": (0, 0, 0),
    }
    for name, seen in expected.items():
        assert exact(name) == [("not seen", "seen")[answer] for answer in seen], name


def test_steps_and_reasons() -> None:
    kl, energy = course(PYTHIA, np.random.default_rng(5))["all"][0]
    first, second, third = find_unigram_first(PYTHIA, kl, energy)
    lowest = int(PYTHIA[kl.argmin()])
    assert first.to_step == lowest
    assert first.low is not None
    assert first.low < lowest < (first.high or 0)
    assert second.from_step == lowest
    assert second.to_step == third.from_step
    assert f"nats, at step {lowest}" in first.reason
    assert "KL rises by" in second.reason


def test_where_checkpoints_lack_it_cannot_be_told() -> None:
    few = schedule(FEWEST_CHECKPOINTS - 1)
    assert exact("all", few) == ["cannot tell"] * 3
    late_start = PYTHIA[PYTHIA >= 1000]
    kl, energy = course(late_start, np.random.default_rng(5))["all"][0]
    found = find_unigram_first(late_start, kl, energy)
    assert found[0].answer == "cannot tell", "what was before its first checkpoint"
    assert "no fall before" in found[0].reason
    gap = PYTHIA[(PYTHIA < 64) | (PYTHIA > 30_000)]
    assert exact("all", gap)[0] == "cannot tell"
    kl, energy = course(gap, np.random.default_rng(5))["both fall"][0]
    assert "no checkpoint between steps 32 and 31000" in find_unigram_first(gap, kl, energy)[0].reason


def test_noise_that_may_hide_a_phase_is_said() -> None:
    rng = np.random.default_rng(2)
    kl, energy = course(PYTHIA, rng)["all"][0]
    noise = rng.normal(size=(2, len(PYTHIA)))
    (first, *_) = find_unigram_first(PYTHIA, kl + noise[0], energy + noise[1])
    assert first.answer == "cannot tell"
    assert "noise alone may move" in first.reason
