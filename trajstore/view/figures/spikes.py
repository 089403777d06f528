"""Spikes as charts: the mean loss with each window, what the classes of tokens do, and shares beside the placebos'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.analysis.spikes.tokens import CLASSES
from trajstore.display import count
from trajstore.errors import listed
from trajstore.pipelines.spikes import not_found
from trajstore.view.charts.chart import Chart, Mark, Panel, Series, step_label
from trajstore.view.figures.axes import numbers

if TYPE_CHECKING:
    import polars as pl

    from trajstore.pipelines.spikes import ClassedSpike, Spikes
    from trajstore.view.charts.chart import Symbol

_NEAR = 12
"""Checkpoints shown on either side of a spike's window."""


def spike_charts(spikes: Spikes) -> list[Chart]:
    """The mean loss by step with a mark at each spike; and for each, its tokens' mean losses and shares by class."""
    selection = spikes.inputs.selection
    subject = f"{spikes.model}, {selection.group or 'all tokens'} of {listed(selection.datasets or (), 4)}"
    charts = [_means(spikes, subject)]
    for spike in spikes.spikes:
        charts += [_classes(spikes, spike, subject), share_chart(spike.shares, spike.steps[1], subject)]
    return charts


def _means(spikes: Spikes, subject: str) -> Chart:
    marks = tuple(
        Mark(
            spike.steps[1], f"spike, {spike.height:.3g} nats" if spike.height > 0 else "no spike of the mean"
        )
        for spike in spikes.spikes
    )
    note = ""
    if not marks:
        note = not_found(spikes.facts)
    elif spikes.noise is not None:
        note = f"Noise between checkpoints: {spikes.noise.size:.2g} nats."
    return Chart(
        title=f"Mean loss with its spikes: {subject}",
        x_label="step",
        y_label="loss (nats a token)",
        panels=(Panel("", (Series("mean loss", numbers(spikes.steps), numbers(spikes.means)),)),),
        marks=marks,
        note=note,
    )


def _classes(spikes: Spikes, spike: ClassedSpike, subject: str) -> Chart:
    """Mean loss of the tokens that follow, are inverse and stay flat, around the window."""
    window, means = spike.classes.window, spike.classes.means
    near = slice(max(0, window.before - _NEAR), window.after + _NEAR + 1)
    steps = numbers(spikes.steps[near])
    series = []
    for side, name in enumerate(CLASSES):
        tokens = int(spike.classes.mask(name).sum())
        if tokens:
            label = f"{name} ({count(tokens, 'token')})"
            series.append(Series(label, steps, numbers(means[near, side]), key=name))
    return Chart(
        title=f"Mean loss by class of token, spike at step {step_label(spike.steps[1])}: {subject}",
        x_label="step",
        y_label="loss (nats a token)",
        panels=(Panel("", tuple(series)),),
        marks=(Mark(spike.steps[0], ""), Mark(spike.steps[1], "spike"), Mark(spike.steps[2], "")),
        note="Tokens are classed by their losses at the marked steps: part of what they show there is that choice.",
        keys=CLASSES,
    )


def share_chart(shares: pl.DataFrame, step: int, subject: str) -> Chart:
    """Shares of tokens that follow and are inverse, in the spike at a step and in placebo windows.

    `shares` has the columns of `ClassedSpike.shares`; `subject` says for the title what they are of.
    """
    panels = []
    for name in CLASSES[:2]:
        of_class = shares.filter(token_class=name)
        placebos = of_class.filter(window_kind="placebo")
        series = [_points("placebo windows", placebos, "dot")] if placebos.height else []
        series.append(_points("the spike", of_class.filter(window_kind="spike"), "diamond"))
        one = of_class.filter(window_kind="spike").row(0, named=True)
        ends = "" if one["low"] is None else f" ({100 * one['low']:.3g} to {100 * one['high']:.3g})"
        recall = of_class.filter(window_kind="recall")["share"]
        missed = f", recall {100 * recall[0]:.2g} %" if len(recall) else ""
        panels.append(Panel(f"{name}: {100 * one['share']:.3g} % found{ends}{missed}", tuple(series)))
    return Chart(
        title=f"Tokens beyond τ in windows of one length, spike at step {step_label(step)}: {subject}",
        x_label="step of the window's middle",
        y_label="share of tokens (%)",
        panels=tuple(panels),
        share_y=False,
        note="In brackets, and as lines: intervals over the choice of text. Shares found are lower bounds; recall is "
        "the estimated share found of the tokens that moved.",
        keys=("placebo windows", "the spike"),
    )


def _points(name: str, rows: pl.DataFrame, symbol: Symbol) -> Series:
    share, low, high = (
        numbers((100 * rows[end]).fill_null(float("nan"))) for end in ("share", "low", "high")
    )
    return Series(name, numbers(rows["at_step"]), share, low, high, mode="markers", symbol=symbol)
