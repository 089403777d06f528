"""The shape of each token's trajectory over log step: which of a few forms its losses follow, and when and how.

Shapes are constant, line, power_law (steepest at first, or flat until s₀), late_drop (a power law with a smaller fall
after it), sigmoid, step (between plateaus), rise_and_fall, fall_and_rise, other (two changes that are no late drop),
and undecided; sigmoid and step are S-shaped. The formulas stand in `forms` and `two_changes`, the place of step 0 and
the steps' weights in `log_steps`, the noise in `ar1`, and how one is chosen in `model_choice`. Losses are nats,
midpoints steps, widths doublings of the step. Opens no store.

On simulated trajectories at noise of 0.1 and 0.3 nats, ρ 0 and 0.8 (400 tokens each, Pythia's 154 steps and 20 evenly
on a log axis), no scaling laws are called S-shaped, 1.8 % at most of flat curves, power laws and humps, 3 % at most of
two sigmoids and of a fall with a hump later, 3.3 to 28 times the noise, and of sigmoids 78 to 96 %
(tests/analysis/shapes/test_shape_rates.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import numpy as np
import polars as pl

from trajstore.analysis.arrays import Floats
from trajstore.analysis.shapes.forms import FEW, WIDTH, Bases
from trajstore.analysis.shapes.least_squares import Kind
from trajstore.analysis.shapes.model_choice import KINDS, Choice, choose
from trajstore.analysis.shapes.refitting import refitted_rho
from trajstore.analysis.shapes.two_changes import COMPOUNDS
from trajstore.analysis.statistics.ar1 import RHOS, NoiseCorrelation
from trajstore.analysis.statistics.log_steps import Schedule

Shape = Literal[
    "constant",
    "line",
    "power_law",
    "late_drop",
    "sigmoid",
    "step",
    "rise_and_fall",
    "fall_and_rise",
    "other",
    "undecided",
]
SHAPES: tuple[Shape, ...] = get_args(Shape)
S_SHAPED: tuple[Shape, ...] = ("sigmoid", "step")
SAMPLE = 2048
"""Tokens from which it is told how strongly noise is correlated."""

COLUMNS: Mapping[str, type[pl.DataType]] = {
    "shape": pl.String,
    "nearest": pl.String,
    "delta_bic": pl.Float32,
    "midpoint": pl.Float64,
    "width": pl.Float32,
    "exponent": pl.Float32,
    "turn": pl.Float64,
    "drop": pl.Float32,
    "start": pl.Float32,
    "final": pl.Float32,
    "forgetting": pl.Float32,
    "acquired": pl.Float64,
    "variability": pl.Float32,
    "noise": pl.Float32,
    "rho": pl.Float32,
}
"""Results for a token; null where its nearest shape has no such value. The view `shapes` says what each is."""

_TOGETHER = 4096
"""Tokens that a thread fits at a time."""
_FEWEST_AT_END = 3


class Shaper:
    """Tells the shapes of the tokens of one model on one dataset."""

    def __init__(self, schedule: Schedule, sample: np.ndarray, seed: int = 0) -> None:
        """`sample` are losses (steps, tokens) of some tokens, from which the noise is estimated with `seed`."""
        self.schedule = schedule
        self._flexible = Bases(schedule, 0.0, np.ones(len(schedule.steps)))
        self._bases = [Bases(schedule, rho) for rho in RHOS.tolist()]
        values = sample.T.astype(np.float64)
        self.noise = NoiseCorrelation.estimate(values, self._flexible.leftover, seed)
        if len(schedule.steps) < FEW:
            self.noise = self.noise.at(refitted_rho(self._bases[0], values, seed))

    def fit(
        self, losses: np.ndarray, done: Callable[[int], None] = lambda _: None, threads: int | None = None
    ) -> pl.DataFrame:
        """The columns of `COLUMNS` for each token of `losses` (steps, tokens), nats.

        `done` hears of some tokens, how many, when they are ready.
        """
        parts = range(0, losses.shape[1], _TOGETHER)

        def work(first: int) -> pl.DataFrame:
            values = losses[:, first : first + _TOGETHER].T.astype(np.float64)
            rows = [(tokens, _describe(choice, values[tokens])) for tokens, choice in self._choices(values)]
            order = np.argsort(np.concatenate([tokens for tokens, _ in rows]))
            return pl.concat([frame for _, frame in rows])[order]

        frames = [pl.DataFrame(schema=COLUMNS)]
        with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
            try:
                for frame in pool.map(work, parts):
                    frames.append(frame)
                    done(frame.height)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return pl.concat(frames)

    def curves(self, losses: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The nearest form of each of a few tokens, losses (steps, tokens), at places: float64 (places, tokens)."""
        values = losses.T.astype(np.float64)
        curves = np.empty((len(values), len(places)))
        for tokens, choice in self._choices(values):
            curves[tokens] = choice.curves(places)
        return curves.T

    def _choices(self, values: np.ndarray) -> Iterator[tuple[np.ndarray, Choice]]:
        """(numbers of the tokens, their forms) of those tokens (tokens, steps) that have one ρ."""
        levels = self.noise.rhos(self._flexible.leftover(values))
        for level in np.unique(levels).tolist():
            tokens = np.flatnonzero(levels == level)
            yield tokens, choose(self._bases[level], values[tokens])


def _describe(choice: Choice, values: np.ndarray) -> pl.DataFrame:
    """The columns of `COLUMNS` for losses (tokens, steps)."""
    bases, schedule = choice.bases, choice.bases.schedule
    fitted = choice.curves(schedule.places)
    nearest = _named(choice)
    squares = np.stack([choice.fits[kind].squares for kind in KINDS], axis=1)
    left = squares[np.arange(len(values)), choice.nearest]
    changes: tuple[tuple[str, Kind, int], ...] = (
        ("sigmoid", "sigmoid", 1),
        ("step", "step", 1),
        ("late_drop", "law_sigmoid", 2),
    )
    plateaus = [choice.fits[kind].linear[:, number] for _, kind, number in changes]
    drop = np.select([nearest == name for name, _, _ in changes], plateaus, fitted[:, 0] - fitted[:, -1])
    return pl.DataFrame(
        {
            "shape": np.where(choice.decided, nearest, "undecided"),
            "nearest": nearest,
            "delta_bic": choice.ahead,
            **_times(choice, nearest),
            "drop": drop,
            "start": fitted[:, 0],
            "final": fitted[:, -1],
            "forgetting": fitted[:, -1] - fitted.min(axis=1),
            "acquired": _acquired(schedule, fitted),
            "variability": _variability(schedule, values - fitted),
            "noise": np.sqrt(left / schedule.effective / (1 - bases.rho**2)),
            "rho": np.full(len(values), bases.rho),
        },
        schema=COLUMNS,
        strict=False,
    ).with_columns(pl.col(name).fill_nan(None) for name, kind in COLUMNS.items() if kind.is_float())


def _named(choice: Choice) -> np.ndarray:
    """The shape of each token's nearest form, text (tokens,)."""
    kinds = np.array(list(KINDS))[choice.nearest]
    turns = np.where(choice.fits["turn"].linear[:, 2] > 0, "rise_and_fall", "fall_and_rise")
    compound = np.where(choice.late_drop, "late_drop", "other")
    power, turn, several = (choice.is_nearest(*names) for names in (("power", "law"), ("turn",), COMPOUNDS))
    return np.select([power, turn, several], ["power_law", turns, compound], kinds)


def _times(choice: Choice, nearest: np.ndarray) -> dict[str, np.ndarray]:
    """Midpoint, width, exponent and turn; NaN where the nearest form has it not."""
    schedule = choice.bases.schedule
    sigmoid, step, turn, late = (
        choice.fits[kind].shape for kind in ("sigmoid", "step", "turn", "law_sigmoid")
    )
    falls = [nearest == "sigmoid", nearest == "late_drop"]
    middle = np.select([*falls, nearest == "step"], [sigmoid[:, 0], late[:, 2], step[:, 0]], np.nan)
    linear = choice.fits["turn"].linear
    # The turn of d·S + 4h·S·(1 − S) is where S = ½ + d/8h, which lies between ¼ and ¾.
    share = 0.5 + linear[:, 1] / np.where(linear[:, 2] == 0, np.inf, 8 * linear[:, 2])
    share = np.clip(share, 0.25, 0.75)
    peak = turn[:, 0] + turn[:, 1] * np.log((1 - share) / share)
    laws = [choice.is_nearest("power"), choice.is_nearest("law"), nearest == "late_drop"]
    exponents = [choice.fits["power"].shape[:, 0], choice.fits["law"].shape[:, 1], late[:, 1]]
    return {
        "midpoint": schedule.steps_at(middle),
        "width": WIDTH * np.select(falls, [sigmoid[:, 1], late[:, 3]], np.nan),
        "exponent": np.select(laws, exponents, np.nan),
        "turn": np.where(choice.is_nearest("turn"), schedule.steps_at(peak), np.nan),
    }


def _acquired(schedule: Schedule, fitted: np.ndarray) -> np.ndarray:
    """The step at which each curve (tokens, steps) is first half-way between its start and its least; NaN if never."""
    half = (fitted[:, :1] + fitted.min(axis=1, keepdims=True)) / 2
    falls = fitted[:, 0] > half[:, 0]
    after = np.where(falls, (fitted <= half).argmax(axis=1), 1)
    rows = np.arange(len(fitted))
    high, low = fitted[rows, after - 1], fitted[rows, after]
    share = np.divide(high - half[:, 0], high - low, out=np.zeros(len(fitted)), where=high > low)
    places = schedule.places[after - 1] * (1 - share) + schedule.places[after] * share
    return np.where(falls, schedule.steps_at(places), np.nan)


def _variability(schedule: Schedule, left: Floats) -> Floats:
    """Root mean square of what is left (tokens, steps) in the last doubling of the steps; NaN for few checkpoints."""
    late = schedule.steps * 2 >= schedule.steps[-1]
    if late.sum() < _FEWEST_AT_END:
        return np.full(len(left), np.nan)
    roots: Floats = np.sqrt((left[:, late] ** 2).mean(axis=1))
    return roots
