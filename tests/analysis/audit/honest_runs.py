"""Simulated training runs, honest and spoiled: every token's loss along steps as real runs have it, of known seeds.

A token's loss falls from the uniform guess along a power law and a sigmoid of its own in log step, the same in all
seeds; a part that belongs to the seed grows with what is learned and changes slowly in log step; the weights wander
between checkpoints in some directions by what the learning rate allows, which lasts over steps. Shares no code with
what audits it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PYTHIA = (0, *(1 << power for power in range(10)), *range(1000, 143_001, 1000))
LOG = (0, *(1 << power for power in range(18)), 143_000)
DENSE = tuple(range(0, 60_001, 1000))
UNIFORM = float(np.log(50_277))


@dataclass(frozen=True)
class Run:
    """A run's steps, and its losses float32 (steps, tokens), nats."""

    steps: tuple[int, ...]
    losses: np.ndarray


def honest(
    steps: tuple[int, ...],
    *,
    text: int = 0,
    seed: int = 1,
    tokens: int = 1500,
    schedule: str = "constant",
    rate: float = 1.0,
    spike: bool = False,
) -> Run:
    """A run on the tokens of `text`; `schedule` is constant or cosine, `rate` a factor of the learning rate."""
    shared, own = np.random.default_rng([text, 7]), np.random.default_rng([text, seed, 8])
    octave = np.log2(1 + np.asarray(steps, dtype=float))[:, None]
    learned = _curves(shared, octave, tokens)
    progress = 1 - learned / UNIFORM
    losses = learned + 0.03 * own.standard_normal(tokens)
    losses = losses + 0.5 * progress * _slow(own, octave[:, 0], tokens) * shared.gamma(2, 0.5, tokens)
    rates = _rates(np.asarray(steps, dtype=float), schedule)
    losses += 0.25 * rate * progress * rates[:, None] * _wander(own, steps, tokens)
    if spike:
        losses += _spike(own, np.asarray(steps), learned, tokens)
    return Run(steps, np.maximum(losses, 1e-4).astype(np.float32))


def _curves(rng: np.random.Generator, octave: np.ndarray, tokens: int) -> np.ndarray:
    """Return the curve that any seed's losses are around, (steps, tokens)."""
    floor = np.minimum(rng.gamma(0.9, 2.0, tokens), UNIFORM - 1)
    fall = UNIFORM - floor
    share, middle, width = (
        rng.uniform(0, 0.6, tokens),
        rng.normal(8, 2.5, tokens),
        rng.uniform(0.3, 1, tokens),
    )
    sigmoid = 1 / (1 + np.exp(np.clip((octave - middle) / width, -50, 50)))
    start, power = rng.uniform(3, 7, tokens), rng.uniform(0.2, 0.5, tokens)
    law = (1 + 2 ** (octave - start)) ** -power
    found: np.ndarray = floor + fall * (share * sigmoid + (1 - share) * law)
    return found


def _slow(rng: np.random.Generator, octave: np.ndarray, tokens: int) -> np.ndarray:
    """A process of standard deviation 1 that is correlated over 4 octaves, (steps, tokens)."""
    found = np.empty((len(octave), tokens))
    found[0] = rng.standard_normal(tokens)
    for at in range(1, len(octave)):
        keep = np.exp(-(octave[at] - octave[at - 1]) / 4)
        found[at] = keep * found[at - 1] + np.sqrt(1 - keep**2) * rng.standard_normal(tokens)
    return found


def _rates(steps: np.ndarray, schedule: str) -> np.ndarray:
    """The learning rate at each step as a part of its peak: a warm-up, then constant or a cosine to a tenth."""
    part = steps / max(steps.max(), 1)
    after = 0.1 + 0.9 * (1 + np.cos(np.pi * part)) / 2 if schedule == "cosine" else np.ones(len(steps))
    found: np.ndarray = np.minimum(1, (steps + 1) / 1000) * after
    return found


def _wander(
    rng: np.random.Generator, steps: tuple[int, ...], tokens: int, directions: int = 60
) -> np.ndarray:
    """Noise of standard deviation 1 in some directions, that lasts over 700 steps, (steps, tokens)."""
    place = np.empty((len(steps), directions))
    place[0] = rng.standard_normal(directions)
    for at in range(1, len(steps)):
        keep = np.exp(-(steps[at] - steps[at - 1]) / 700)
        place[at] = keep * place[at - 1] + np.sqrt(1 - keep**2) * rng.standard_normal(directions)
    return place @ rng.standard_normal((directions, tokens)) / np.sqrt(directions)


def _spike(rng: np.random.Generator, steps: np.ndarray, learned: np.ndarray, tokens: int) -> np.ndarray:
    """Return what a loss spike adds, (steps, tokens): up within a step, some way back and some damage.

    It falls to a third in every 1000 steps.
    """
    at = int(rng.integers(len(steps) // 2, len(steps) - 3))
    back = learned[at // 2] - learned[at]
    damage = rng.gamma(1, 1, tokens)
    size = np.where(np.arange(len(steps)) < at, 0, np.exp(-np.maximum(steps - steps[at], 0) / 1000))
    found: np.ndarray = size[:, None] * (0.5 * back + 0.7 * damage)
    return found


HONEST: tuple[dict[str, object], ...] = (
    {},
    {"schedule": "cosine"},
    {"rate": 2.5},
    {"spike": True},
    {"schedule": "cosine", "spike": True},
)
"""Options of `honest` that make runs of different kinds."""


Spoil = Callable[[Run, np.random.Generator, np.ndarray], set[int]]
"""Spoils the losses of a run in place, given another seed's; returns the rows that are wrong."""


def _one(run: Run, rng: np.random.Generator) -> int:
    return int(rng.integers(1, len(run.steps) - 1))


def shuffled(run: Run, rng: np.random.Generator, other: np.ndarray) -> set[int]:
    """A step's losses stand in another order."""
    at = _one(run, rng)
    run.losses[at] = rng.permutation(run.losses[at])
    return {at}


def bits(run: Run, rng: np.random.Generator, other: np.ndarray) -> set[int]:
    """A step's losses are bits."""
    at = _one(run, rng)
    run.losses[at] /= np.log(2)
    return {at}


def bits_from_there_on(run: Run, rng: np.random.Generator, other: np.ndarray) -> set[int]:
    """All losses from some step on are bits."""
    at = int(rng.integers(len(run.steps) // 4, 3 * len(run.steps) // 4))
    run.losses[at:] /= np.log(2)
    return set(range(at, len(run.steps)))


def perplexities(run: Run, rng: np.random.Generator, other: np.ndarray) -> set[int]:
    """A step's losses are perplexities."""
    at = _one(run, rng)
    run.losses[at] = np.exp(run.losses[at])
    return {at}


def other_seed_once(run: Run, rng: np.random.Generator, other: np.ndarray) -> set[int]:
    """A step, not of the first few that seeds share, holds the weights of another seed."""
    at = int(rng.integers(len(run.steps) // 3, len(run.steps) - 1))
    run.losses[at] = other[at]
    return {at}


def other_seed_from_half_way(run: Run, rng: np.random.Generator, other: np.ndarray) -> set[int]:
    """The second half of the run is another seed's."""
    at = len(run.steps) // 2
    run.losses[at:] = other[at:]
    return {at}


def nearly_a_copy(run: Run, rng: np.random.Generator, other: np.ndarray) -> set[int]:
    """A step is a copy of another, but for rounding of 1e-5 nats."""
    at, of = rng.choice(np.arange(1, len(run.steps)), 2, replace=False)
    noise = 1e-5 * rng.standard_normal(run.losses.shape[1])
    run.losses[at] = run.losses[of] + noise.astype(np.float32)
    return {int(at), int(of)}


def _final(run: Run, rng: np.random.Generator, rows: np.ndarray) -> set[int]:
    last = run.losses[-1].copy()
    for at in rows:
        noise = 1e-5 * rng.standard_normal(len(last))
        run.losses[at] = last + noise.astype(np.float32)
    return set(rows.tolist())


def final_under_many(run: Run, rng: np.random.Generator, other: np.ndarray) -> set[int]:
    """A block of 86 of 154 steps (as many of others) holds the weights of the end."""
    n = 86 * len(run.steps) // 154
    first = int(rng.integers(0, len(run.steps) - n - 3))
    return _final(run, rng, np.arange(first, first + n))


def final_here_and_there(run: Run, rng: np.random.Generator, other: np.ndarray) -> set[int]:
    """20 of 154 steps (as many of others) hold the weights of the end."""
    n = max(2, 20 * len(run.steps) // 154)
    return _final(run, rng, np.sort(rng.choice(len(run.steps) - 1, n, replace=False)))


SPOILED: tuple[Spoil, ...] = (
    shuffled,
    bits,
    bits_from_there_on,
    perplexities,
    other_seed_once,
    other_seed_from_half_way,
    nearly_a_copy,
    final_under_many,
    final_here_and_there,
)
