"""Phases: when a curve over training changes its course, turns, or falls and rises fastest; and the induction bump.

Events of a curve, each between two steps:

- change: a kink or a jump that a smooth monotone course with noise rarely shows (`change_points`). Its step is the
  first checkpoint after it.
- minimum, maximum: a checkpoint at which the curve turns, unless noise between checkpoints often makes such a turn
  (`change_points`) or other texts do not show it.
- fastest_fall, fastest_rise: of all stretches of half a doubling of the step, or as little more as the checkpoints
  leave, the one in which the curve falls or rises fastest by doubling; without what of it, at either end, brings less
  than a tenth of the change. Its step is the checkpoint after the largest change in it.
- induction: such a stretch in which an in-context-learning score falls fastest while the loss on repeated tokens does:
  that of the largest √(fall · fall), each by doubling. Olsson et al. 2022, In-context Learning and Induction Heads, see
  the two fall together in one abrupt phase. There is none where either falls less than `LEAST_FALL` in it, or falls in
  fewer resamples than the level asks for.

Intervals are percentiles over resamples of whole contexts. For a change, noise between checkpoints is drawn anew as
well, and for a measure, which has no contexts, noise alone. No interval is narrower than from the checkpoint before to
the one after; that of a stretch holds the stretch. Arrays in, events out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trajstore.analysis.arrays import Floats, Whole
from trajstore.analysis.phases.change_points import TURN_CHANCE, Course, find_changes, redrawn
from trajstore.analysis.statistics.log_steps import Schedule
from trajstore.arguments import defaults
from trajstore.arguments.spelling import option
from trajstore.errors import BadOption, TrajstoreError

FEWEST_CHECKPOINTS = 12
"""Fewer tell no phases."""
LEAST_FALL = 0.2
"""Nats that both curves must fall in an induction bump."""
KINDS = ("change", "minimum", "maximum", "fastest_fall", "fastest_rise", "induction")

_STRETCH = 0.5
"""Doublings."""
_LITTLE = 0.1


@dataclass(frozen=True)
class Curve:
    """A series along the checkpoints of a model."""

    series: str
    """Name of the group, of the difference of two, or of the measure."""
    model: str
    dataset: str
    """"" for a measure of none."""
    steps: Whole
    """int64 (checkpoints,), ascending."""
    values: Floats
    """float64 (checkpoints,)."""
    resampled: Floats | None = None
    """The values in each resample of contexts, float64 (resamples, checkpoints); None where nothing is resampled."""

    def __post_init__(self) -> None:
        """Refuse what is too short."""
        if len(self.steps) < FEWEST_CHECKPOINTS:
            raise TrajstoreError(
                f"{self.series} has {len(self.steps)} checkpoints of {self.model}, too few to tell phases: it takes "
                f"{FEWEST_CHECKPOINTS}. Choose more with {option('steps')}, or score them: trajstore score"
            )

    @property
    def off(self) -> Floats:
        """Return the deviations of each resample's values from those of all, float64 (resamples or 1, checkpoints)."""
        if self.resampled is None:
            return np.zeros((1, len(self.values)))
        return self.resampled - self.values


@dataclass(frozen=True)
class Event:
    """Something that happened in a curve."""

    kind: str
    """One of `KINDS`."""
    model: str
    dataset: str
    series: str
    step: int
    low: int
    """The first step of its interval."""
    high: int
    """The last."""
    value: float
    """The curve's, at the step."""


@dataclass(frozen=True)
class Settings:
    """Settings by which events are found."""

    most: int = defaults.CHANGES
    """Changes that are looked for."""
    level: float = defaults.LEVEL
    """Share of intervals that should cover."""
    seed: int = 0
    """Of simulated noise."""
    draws: int = 500
    """Curves with noise drawn anew, for the interval of a change."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.most < 0:
            raise BadOption("changes", self.most, "0 or more")
        if not 0 < self.level < 1:
            raise BadOption("level", self.level, "a share between 0 and 1, as 0.95")


def events(curve: Curve, settings: Settings | None = None) -> list[Event]:
    """All events of a curve but induction, by kind, then step."""
    how = settings or Settings()
    schedule = Schedule.of(curve.steps)
    course = find_changes(schedule, curve.values, how.most, how.seed)
    every = [*_changes(curve, schedule, course, how), *_turns(curve, course, how), *_fastest(curve, how)]
    return sorted(every, key=lambda event: (KINDS.index(event.kind), event.step))


def induction(score: Curve, repeated: Curve, settings: Settings | None = None) -> Event | None:
    """The induction bump of a model, from its in-context-learning score and its loss on repeated tokens, or None.

    Both at the same steps, in nats, with the same number of resamples, if any.
    """
    how = settings or Settings()
    if not np.array_equal(score.steps, repeated.steps):
        raise ValueError("the two curves have other steps")
    first, last, doublings = _stretches(score.steps)

    def falls(curves: Floats, first: Whole, last: Whole) -> Floats:
        return np.maximum(curves[:, first] - curves[:, last], 0)

    pair = [np.vstack([curve.values, curve.values + curve.off]) for curve in (score, repeated)]
    both = np.stack([falls(curves, first, last) for curves in pair])
    joint = np.sqrt(both.prod(axis=0))
    place = (joint / doublings).argmax(axis=1)
    at = int(place[0])
    if both[:, 0, at].min() < LEAST_FALL or (both[:, 1:, at].min(axis=0) > 0).mean() < how.level:
        return None
    every = np.arange(len(score.steps))
    single = np.sqrt(np.prod([falls(curves, every[:-1], every[1:]) for curves in pair], axis=0))
    return _stretch("induction", score, single, first[place], last[place], how.level)


def _changes(curve: Curve, schedule: Schedule, course: Course, how: Settings) -> Iterator[Event]:
    """The change points."""
    if not len(course.starts):
        return
    off = curve.off[np.arange(how.draws) % len(curve.off)]
    drawn = redrawn(schedule, course, off, how.seed)
    for number, start in enumerate(course.starts.tolist()):
        ends = drawn[:, number]
        last = min(start + 1, len(curve.steps) - 1)
        yield _event("change", curve, start, *_ends(ends - 1, ends, start - 1, last, how.level))


def _turns(curve: Curve, course: Course, how: Settings) -> Iterator[Event]:
    """Minima and maxima inside of training."""
    from scipy.signal import find_peaks

    for kind, sign in (("minimum", -1), ("maximum", 1)):
        values = sign * curve.values
        at, peaks = find_peaks(values, prominence=0)
        for peak, prominence, left, right in zip(
            at.tolist(), peaks["prominences"], peaks["left_bases"], peaks["right_bases"], strict=True
        ):
            if course.chance_of_turn(float(prominence)) > TURN_CHANCE:
                continue
            resampled = (values + sign * curve.off)[:, left : right + 1]
            higher = resampled[:, peak - left] - np.maximum(resampled[:, 0], resampled[:, -1])
            if (higher > 0).mean() < how.level:
                continue
            place = left + resampled.argmax(axis=1)
            yield _event(kind, curve, peak, *_ends(place - 1, place + 1, peak - 1, peak + 1, how.level))


def _fastest(curve: Curve, how: Settings) -> Iterator[Event]:
    """Return the stretches in which the curve falls and rises fastest."""
    first, last, doublings = _stretches(curve.steps)
    curves = np.vstack([curve.values, curve.values + curve.off])
    for kind, sign in (("fastest_fall", -1), ("fastest_rise", 1)):
        slopes = sign * (curves[:, last] - curves[:, first]) / doublings
        place = slopes.argmax(axis=1)
        of_stretch = slopes[:, place[0]] > 0
        if of_stretch[0] and of_stretch[1:].mean() >= how.level:
            single = sign * np.diff(curves)
            yield _stretch(kind, curve, single, first[place], last[place], how.level)


def _stretch(
    kind: str, curve: Curve, single: np.ndarray, first: np.ndarray, last: np.ndarray, level: float
) -> Event:
    """The event of a stretch, the first of several, whose others are of resamples.

    `single` are changes from checkpoint to checkpoint (curves, checkpoints − 1), in the direction looked for.
    """
    trimmed = [_trimmed(row, a, b) for row, a, b in zip(single, first.tolist(), last.tolist(), strict=True)]
    begins, ends = np.array(trimmed).T
    low, high = _ends(begins[1:], ends[1:], begins[0], ends[0], level)
    step = int(begins[0]) + 1 + int(single[0, begins[0] : ends[0]].argmax())
    return _event(kind, curve, step, low, high)


def _trimmed(single: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """A stretch without what of it, at either end, brings less than `_LITTLE` of the change."""
    little = _LITTLE * single[first:last].sum()
    while last - first > 1 and single[first] < little:
        first += 1
    while last - first > 1 and single[last - 1] < little:
        last -= 1
    return first, last


def _stretches(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shortest stretches from each checkpoint that are long enough: first, last, doublings (stretches,)."""
    places = Schedule.of(steps).places
    last = np.searchsorted(places, places + _STRETCH - 1e-9)
    first = np.flatnonzero(last < len(places))
    last = last[first]
    return first, last, places[last] - places[first]


def _ends(lows: np.ndarray, highs: np.ndarray, at_most: int, at_least: int, level: float) -> tuple[int, int]:
    """An interval of checkpoints from those of resamples, that holds at least what is given."""
    tail = (1 - level) / 2
    low = int(np.quantile(lows, tail, method="lower"))
    high = int(np.quantile(highs, 1 - tail, method="higher"))
    return min(low, int(at_most)), max(high, int(at_least))


def _event(kind: str, curve: Curve, at: int, low: int, high: int) -> Event:
    last = len(curve.steps) - 1
    step, first, end = curve.steps[[at, max(low, 0), min(high, last)]].tolist()
    return Event(kind, curve.model, curve.dataset, curve.series, step, first, end, float(curve.values[at]))
