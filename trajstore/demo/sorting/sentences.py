"""Sentences of the demo of sorting, from what was measured by step: also where it differs from what was published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from trajstore.demo.sentences import LARGEST_R_HAT
from trajstore.demo.sorting.lists import LENGTH, NUMBERS

if TYPE_CHECKING:
    from trajstore.demo.sorting.train import SortingRecipe

_BY_CHANCE = 1 + (NUMBERS - 1) / 2
"""Stretches of the vocabulary, were each number the one or the other head's by a coin."""


def sentences(by_step: pl.DataFrame, recipe: SortingRecipe) -> list[str]:
    """The sentences, from a frame with the columns of `SortingDemo.by_step`."""
    first, last = by_step.row(0, named=True), by_step.row(-1, named=True)
    return [
        (
            f"Training data: {LENGTH} different numbers of 0 to {NUMBERS - 1}, a mark, and the same in order; the loss "
            f"is that of the numbers in order. The model has one layer of attention with {recipe.heads} heads, width "
            f"{recipe.width}, and no MLP."
        ),
        _sorting(by_step),
        _coefficient(by_step),
        (
            f"Heads: the attention to the number that comes next differs between the heads by {first['apart']:.2f} at "
            f"step {first['step']} and by {last['apart']:.2f} at step {last['step']}, of 1 where each number is one "
            f"head's alone; the numbers that a head attends to more than the other lie in {last['stretches']} "
            f"stretches (in about {_BY_CHANCE:.0f} by chance)."
        ),
        _circuit(first, last),
        _published(by_step),
    ]


def _sorting(by_step: pl.DataFrame) -> str:
    """Return when the loss is low."""
    first, last = by_step.row(0, named=True), by_step.row(-1, named=True)
    low = by_step.filter(pl.col("loss") < first["loss"] / 40)["step"]
    when = f"below a fortieth of that from step {low[0]} on" if len(low) else "never below a fortieth of that"
    return (
        f"Loss: {first['loss']:.2f} nats a number at step {first['step']}, {when}, {last['loss']:.4f} at step "
        f"{last['step']}."
    )


def _coefficient(by_step: pl.DataFrame) -> str:
    """Return the course of the learning coefficient, and whether its chains agree."""
    rows = by_step.drop_nulls("llc")
    values = ", ".join(
        f"{value:.1f} ± {error:.1f} at step {step}"
        for step, value, error in rows.select("step", "llc", "llc_stderr").iter_rows()
    )
    apart = rows.filter(pl.col("r_hat") > LARGEST_R_HAT)
    agree = f"R̂ is {rows['r_hat'].to_numpy().max():.2f} at most, so the chains agree."
    if apart.height:
        steps = ", ".join(map(str, apart["step"]))
        agree = f"R̂ is above {LARGEST_R_HAT} at step {steps}: chains do not agree there, and these values say little."
    return f"Learning coefficient of the numbers in order: {values}. {agree}"


def _circuit(first: dict[str, Any], last: dict[str, Any]) -> str:
    """Return how the QK circuit changes along the vocabulary's diagonals."""
    heads = [name for name in first if name.startswith("diagonal_")]
    changes = "; ".join(f"head {name[-1]} {first[name]:.1f} → {last[name]:.1f}" for name in heads)
    above = [name[-1] for name in heads if last[name] > 0]
    which = f"head {' and '.join(above)}" if above else "no head"
    return (
        f"QK circuit over the vocabulary, diagonal score from step {first['step']} to {last['step']}: {changes}. "
        f"Above 0, where it depends more on the distance of two numbers than on their sum: {which}."
    )


def _published(by_step: pl.DataFrame) -> str:
    """Return what was published of such models, and whether this one shows it."""
    first, last = by_step.row(0, named=True), by_step.row(-1, named=True)
    split = last["stretches"] < _BY_CHANCE / 2 and last["apart"] > 2 * first["apart"]
    rows = by_step.drop_nulls("llc").sort("step")
    highest = rows.row(int(rows["llc"].arg_max() or 0), named=True)
    end = rows.row(-1, named=True)
    error = ((highest["llc_stderr"] or 0) ** 2 + (end["llc_stderr"] or 0) ** 2) ** 0.5
    falls = highest["llc"] - end["llc"] > 2 * error
    sharing = (
        "so it does here"
        if split and last["apart"] > 0.9
        else (
            "here heads take ranges as well, but both attend to many numbers"
            if split
            else "here it does not by the last step"
        )
    )
    simpler = (
        f"here the coefficient falls from {highest['llc']:.1f} at step {highest['step']} to {end['llc']:.1f}"
        if falls
        else f"here the coefficient does not fall from its highest, {highest['llc']:.1f} at step {highest['step']}"
    )
    return (
        "Published (Urdshals and Urdshals 2025, Structure Development in List-Sorting Transformers): the vocabulary is "
        f"split between the heads; {sharing}. Splitting is the simpler solution there; {simpler}. This is one short "
        "training of one seed, with settings of its own, and no test of what was published."
    )
