"""Curves of known shape with noise, and schedules of checkpoints."""

from __future__ import annotations

import numpy as np
import polars as pl

from trajstore.analysis.statistics.ar1 import simulate
from trajstore.analysis.statistics.log_steps import Schedule

PYTHIA = [0, *(2**n for n in range(10)), *range(1000, 143001, 1000)]
SHORT = [0, 1, 2, 4, 8, 16, 32, 64, 128, 181, 256, 304, 362, 395, 431, 512, 609, 724, 861, 1024, 1448]
Curves = np.ndarray


def sigmoid(places: Curves, a: float, d: float, m: float, width: float) -> Curves:
    """From a + d to a, half-way at m, `width` from 10 to 90 %."""
    return a + d / (1 + np.exp((places - m) * 2 * np.log(9) / width))


def planted(
    schedule: Schedule, n: int, seed: int, noise: float, rho: float
) -> tuple[np.ndarray, pl.DataFrame]:
    """(losses (steps, tokens), kind and parameters of each token), all kinds in turn."""
    rng = np.random.default_rng(seed)
    x = schedule.places
    low, high = x[0] + 0.25 * schedule.span, x[-1] - 0.25 * schedule.span
    rows, curves = [], []
    for number in range(n):
        kind = ("constant", "line", "power", "sigmoid", "step", "turn")[number % 6]
        a, d = rng.uniform(0.5, 4), rng.uniform(3, 6)
        m, width, c = rng.uniform(low, high), rng.uniform(1, 5), rng.uniform(0.3, 0.9)
        s = sigmoid(x, 0, 1, m, width)
        jump = rng.choice((x[1:] + x[:-1])[len(x) // 4 : 3 * len(x) // 4] / 2)
        curves.append(
            {
                "constant": a + 0 * x,
                "line": a + d * (x - x[0]) / schedule.span,
                "power": a + d * 2 ** (-c * (x - x[0])),
                "sigmoid": a + d * s,
                "step": a + d * (x < jump),
                "turn": a + d * s + 4 * d * s * (1 - s),
            }[kind]
        )
        rows.append((kind, a, d, jump if kind == "step" else m, width, c))
    names = ["kind", "a", "d", "m", "width", "c"]
    errors = noise * simulate(len(x), n, rho, rng)
    return (np.array(curves) + errors).T, pl.DataFrame(rows, schema=names, orient="row")
