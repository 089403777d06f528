"""«Unigram first» as charts: KL and energy of each model with the borders of its phases."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trajstore.errors import listed
from trajstore.view.charts.chart import Chart, Series
from trajstore.view.figures.axes import NAMED, numbers, panels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trajstore.pipelines.measures.unigram_first import Run, UnigramFirst


def charts_of_unigram_first(found: UnigramFirst) -> list[Chart]:
    """A chart of KL and one of energy, with a panel for each dataset, models coloured."""
    models = tuple(dict.fromkeys(run.model for run in found.runs))
    on = dict.fromkeys(run.dataset for run in found.runs)
    curves = (
        (f"KL of predictions to unigrams, {found.direction}", "kl_unigram (nats)"),
        ("Interaction energy before the final norm", "interaction_energy"),
    )
    return [
        Chart(
            title=f"{title}: {listed(models, NAMED)}",
            x_label="step",
            y_label=label,
            panels=panels(on, partial(_panel, found.runs, number)),
            note="Dots: where phases end that are seen. Thin lines: their intervals.",
            keys=models,
        )
        for number, (title, label) in enumerate(curves)
    ]


def _panel(runs: Iterable[Run], number: int, dataset: str) -> Iterable[Series]:
    """The curves of a dataset, each with its borders of phases 1 and 2."""
    for run in runs:
        if run.dataset != dataset:
            continue
        values = (run.kl, run.energy)[number]
        yield Series(run.model, numbers(run.steps), numbers(values), mode="lines", key=run.model)
        for phase in run.phases[:2]:
            if phase.low is None or phase.high is None or phase.to_step is None:
                continue
            value = float(values[run.steps.searchsorted(phase.to_step)])
            note = f"end of phase {phase.number}: {phase.low} to {phase.high}"
            name = f"ends phase {phase.number}"
            drawn = partial(Series, name, key=run.model, note=note, in_legend=False)
            ends = (float(phase.low), float(phase.high))
            yield drawn(ends, (value, value), mode="lines", faint=True)
            yield drawn((float(phase.to_step),), (value,), mode="markers")
