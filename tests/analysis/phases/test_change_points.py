"""Changes and turns of simulated curves: rare in smooth courses with noise, found where a kink is planted.

Curves and noise are made here, by code that shares nothing with what it checks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from trajstore.analysis.phases.change_points import FALSE_ALARMS
from trajstore.analysis.phases.phases import Curve, Settings, events

PYTHIA = np.array([0, *(2**k for k in range(10)), *range(1000, 143_001, 1000)])
FEW = np.array([0, *np.unique(np.round(np.geomspace(1, 143_000, 20)).astype(int))])
SCHEDULES = {"21": FEW, "154": PYTHIA}
COURSES = ("flat", "line", "power", "offset", "sigmoid")
SLOPES = ((0.0, 0.3), (0.3, 0.0), (0.5, 0.2), (0.2, 0.5), (0.6, 0.2), (1.0, 0.2))
"""Nats a doubling before and after a kink."""


def doublings(steps: np.ndarray) -> np.ndarray:
    return np.log2(np.maximum(steps, 0.5))


def noise(rng: np.random.Generator, checkpoints: int, rho: float) -> np.ndarray:
    """One curve of noise with variance 1, by the recursion, after a hundred checkpoints to forget its start."""
    value, found = 0.0, []
    for shock in rng.normal(size=checkpoints + 100):
        value = rho * value + np.sqrt(1 - rho**2) * shock
        found.append(value)
    return np.array(found[100:])


def smooth(course: str, steps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    drop, c = rng.uniform(2, 8), rng.uniform(0.1, 0.6)
    x = doublings(steps)
    curves = {
        "flat": np.full(len(steps), 3.0),
        "line": 10 - rng.uniform(0.1, 0.5) * x,
        "power": 2 + drop * (1.0 + steps) ** -c,
        "offset": 2 + drop * (1 + steps / 2 ** rng.uniform(0, 7.6)) ** -c,
        "sigmoid": 2 + drop / (1 + np.exp((x - rng.uniform(4, 14)) / rng.uniform(1, 3))),
    }
    return curves[course]


def has_events(steps: np.ndarray, values: np.ndarray) -> bool:
    found = events(Curve("group", "model", "d", steps, values), Settings(draws=20))
    return any(event.kind in ("change", "minimum", "maximum") for event in found)


def false_alarms(steps: np.ndarray, rho: float, times: int, seed: int) -> Iterator[tuple[str, bool]]:
    """(course, whether it has a change or turn) of smooth curves with noise of 0.003 to 0.5 nats."""
    rng = np.random.default_rng(seed)
    for number in range(times):
        course = COURSES[number % len(COURSES)]
        size = 10 ** rng.uniform(-2.5, -0.3)
        yield (
            course,
            has_events(steps, smooth(course, steps, rng) + size * noise(rng, len(steps), rho)),
        )


def found_kinks(steps: np.ndarray, rho: float, times: int, seed: int) -> float:
    """The share of kinks of 0.3 nats a doubling or more, of five times the noise, that have a change within 1.5."""
    rng = np.random.default_rng(seed)
    x = doublings(steps)
    hits = 0
    for number in range(times):
        before, after = SLOPES[number % len(SLOPES)]
        at = rng.choice(np.flatnonzero((x > 3.5) & (x < x[-1] - 3)))
        values = 10 - before * np.minimum(x - x[at], 0) - after * np.maximum(x - x[at], 0)
        values += abs(before - after) / 5 * noise(rng, len(steps), rho)
        found = events(Curve("group", "model", "d", steps, values), Settings(draws=20))
        near = [each for each in found if each.kind == "change" and abs(doublings(each.step) - x[at]) <= 1.5]
        hits += bool(near)
    return hits / times


@pytest.mark.parametrize(("schedule", "times"), [("21", 20), ("154", 5)])
@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_smooth_curves_rarely_have_changes_or_turns(schedule: str, times: int, rho: float) -> None:
    alarms = [alarm for _, alarm in false_alarms(SCHEDULES[schedule], rho, times, 1)]
    assert stats.binomtest(sum(alarms), times, FALSE_ALARMS, alternative="greater").pvalue > 0.01


def test_planted_kinks_are_found() -> None:
    assert found_kinks(FEW, 0.0, 18, 1) >= 12 / 18
    assert found_kinks(PYTHIA, 0.0, 4, 1) >= 3 / 4


def test_flat_noise_of_few_checkpoints_seldom_turns() -> None:
    """Turns were once found in 19 to 45 % of such curves."""
    rng = np.random.default_rng(3)
    turned = sum(has_events(FEW, 3 + 0.1 * noise(rng, len(FEW), 0.6)) for _ in range(25))
    assert turned <= 6


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("rho", [0.0, 0.4, 0.8])
def test_at_most_a_tenth_of_smooth_curves_has_changes_or_turns(schedule: str, rho: float) -> None:
    told = list(false_alarms(SCHEDULES[schedule], rho, 400, 2))
    by_course = {course: np.mean([alarm for of, alarm in told if of == course]) for course in COURSES}
    share = float(np.mean([alarm for _, alarm in told]))
    print(f"{schedule} steps, ρ {rho}: {share:.1%}; {by_course}")
    assert share <= FALSE_ALARMS
    assert max(by_course.values()) <= FALSE_ALARMS + 0.08, "of 80, within two and a half standard errors"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("rho", [0.0, 0.4, 0.8])
def test_four_fifths_of_planted_kinks_are_found(schedule: str, rho: float) -> None:
    share = found_kinks(SCHEDULES[schedule], rho, 200, 2)
    print(f"{schedule} steps, ρ {rho}: {share:.1%}")
    assert share >= 0.8
