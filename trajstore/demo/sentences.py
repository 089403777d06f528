"""Sentences of the demo, computed from trajectories, with the change of the training mix kept in sight."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

SMALLEST_GROUP = 30
"""Tokens below which a group's mean says little."""


@dataclass(frozen=True)
class Onset:
    """Something that happened between two neighbouring checkpoints."""

    after: int
    """Last step before it."""
    by: int
    """First step at which it has happened."""
    change_of_data: bool
    """True if the training mix changed within one checkpoint of it."""

    @property
    def text(self) -> str:
        """The step and label of the event."""
        where = f"between steps {self.after} and {self.by}"
        return f"{where} (a change of data: the training mix changes there)" if self.change_of_data else where


def onset(steps: Sequence[int], by: int, mix_change: int) -> Onset:
    """The event that has happened `by` this step, one of `steps` but not the first.

    It is a change of data if the mix changes between the checkpoint before the event's interval and the one after it.
    """
    at = bisect_left(steps, by)
    low, high = steps[max(0, at - 2)], steps[min(len(steps) - 1, at + 1)]
    return Onset(steps[at - 1], by, low <= mix_change <= high)


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
    when = onset(both["step"].to_list(), first["step"], mix_change)
    before = both.filter(step=when.after).row(0, named=True)
    return (
        f"{model} learns the repeated half {when.text}: {before['mean']:.2f} → {first['mean']:.2f} nats a token, "
        f"{last['mean']:.2f} at step {last['step']}; the fresh half meanwhile goes {before['mean_fresh']:.2f} → "
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
    when = onset(steps, steps[fastest], mix_change)
    return (
        f"In {part['model'][0]} the group that changed most is {best[0]} ({part['tokens'][0]} tokens): "
        f"{means[0]:.2f} → {means[-1]:.2f} nats a token from step {steps[0]} to {steps[-1]}, fastest {when.text}."
    )
