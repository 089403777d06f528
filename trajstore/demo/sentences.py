"""Sentences of the demo, computed from trajectories, with the change of the training mix kept in sight.

Order in time is told by intervals of steps: of two events that share a stretch, which is first cannot be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import polars as pl

SMALLEST_GROUP = 30
"""Tokens below which a group's mean says little."""
LARGEST_R_HAT = 1.1
"""Above it chains are not said to agree."""
HALF = NormalDist().inv_cdf(0.975)
"""Half of an interval of 95 %, in standard errors."""


@dataclass(frozen=True)
class Stretch:
    """When something happens: after the first of two steps, by the second."""

    low: int
    high: int

    @property
    def text(self) -> str:
        """The steps in words."""
        return f"between steps {self.low} and {self.high}"

    def order(self, other: Stretch) -> str:
        """Return "before" or "after" the other, or "" where the two share a stretch."""
        if self.high <= other.low:
            return "before"
        return "after" if self.low >= other.high else ""


@dataclass(frozen=True)
class Training:
    """The checkpoints of a training, and where its mix of data changes."""

    steps: Sequence[int]
    mix_change: int

    def since(self, step: int) -> Stretch:
        """From the checkpoint before a step to it."""
        return Stretch(max((other for other in self.steps if other < step), default=step), step)

    def text(self, when: Stretch) -> str:
        """A stretch in words; it is a change of data if the mix changes within one checkpoint of it."""
        before = max((step for step in self.steps if step < when.low), default=when.low)
        after = min((step for step in self.steps if step > when.high), default=when.high)
        changes = (
            " (a change of data: the training mix changes there)"
            if before <= self.mix_change <= after
            else ""
        )
        return when.text + changes


def repeats_learned(repeated: pl.DataFrame, fresh: pl.DataFrame, mix_change: int) -> str:
    """Return whether and when one model learned to copy, from its trajectories on repeated and on fresh random tokens.

    Learned is: the repeated tokens cost less than half of what the fresh ones cost (nats a token).
    """
    model = repeated["model"][0]
    both = repeated.join(fresh, on="step", suffix="_fresh").sort("step")
    learned = both.filter(pl.col("mean") < pl.col("mean_fresh") / 2)
    last = both.row(-1, named=True)
    if learned.is_empty():
        best = both.row(int(both["mean"].arg_min() or 0), named=True)
        return (
            f"{model} does not learn the repeated half by step {last['step']}: there it costs {last['mean']:.2f} nats "
            f"a token, the fresh half {last['mean_fresh']:.2f} (lowest {best['mean']:.2f}, at step {best['step']})."
        )
    first = learned.row(0, named=True)
    training = Training(both["step"].to_list(), mix_change)
    when = training.since(first["step"])
    before = both.filter(step=when.low).row(0, named=True)
    return (
        f"{model} learns the repeated half {training.text(when)}: {before['mean']:.2f} → {first['mean']:.2f} nats a "
        f"token, {last['mean']:.2f} at step {last['step']}; the fresh half meanwhile goes {before['mean_fresh']:.2f} → "
        f"{first['mean_fresh']:.2f}."
    )


def changed_most(trajectories: pl.DataFrame, mix_change: int) -> str:
    """The group of one model whose mean loss differs most between first and last step, and where it fell fastest."""
    best = ("", 0.0)
    frame = trajectories.filter(pl.col("tokens") >= SMALLEST_GROUP).sort("step")
    parts = {
        f"{g} on {d}": part for (g, d), part in frame.group_by(["group", "dataset"], maintain_order=True)
    }
    for name, part in parts.items():
        change = part["mean"][-1] - part["mean"][0]
        if abs(change) > abs(best[1]):
            best = (name, change)
    part = parts[best[0]]
    steps, means = part["step"].to_list(), part["mean"]
    fastest = int(means.diff().abs().arg_max() or 1)
    training = Training(steps, mix_change)
    when = training.text(training.since(steps[fastest]))
    return (
        f"In {part['model'][0]} the group that changed most is {best[0]} ({part['tokens'][0]} tokens): "
        f"{means[0]:.2f} → {means[-1]:.2f} nats a token from step {steps[0]} to {steps[-1]}, fastest {when}."
    )
