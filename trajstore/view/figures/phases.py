"""Phases as charts: each curve with its events and their intervals."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trajstore.errors import listed
from trajstore.view.charts.chart import Chart, Series
from trajstore.view.figures.axes import NAMED, numbers, panels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trajstore.analysis.phases.phases import Curve, Event
    from trajstore.pipelines.phases import Phases
    from trajstore.view.charts.chart import Symbol

_SYMBOLS: dict[str, tuple[Symbol, str]] = {
    "change": ("diamond", "changes"),
    "minimum": ("ring", "turns"),
    "maximum": ("ring", "turns"),
    "fastest_fall": ("square", "is fastest"),
    "fastest_rise": ("square", "is fastest"),
    "induction": ("dot", "induction"),
}
_MEANINGS: dict[Symbol, str] = {
    "diamond": "Diamond: the course changes.",
    "ring": "Ring: a minimum or maximum.",
    "square": "Square: falls or rises fastest.",
    "dot": "Dot: induction.",
}


def phase_charts(phases: Phases) -> list[Chart]:
    """A chart of each series, with a panel for each dataset, models coloured."""
    return event_charts(
        phases.curves, phases.events, "" if phases.facts["induction"] else "No event was found."
    )


def event_charts(every: Sequence[Curve], events: Sequence[Event], without: str = "") -> list[Chart]:
    """The charts of curves and their events; `without` is the note of a chart that has no event."""
    models = tuple(dict.fromkeys(curve.model for curve in every))
    charts = []
    for series in dict.fromkeys(curve.series for curve in every):
        curves = [curve for curve in every if curve.series == series]
        own = [event for event in events if event.series == series]
        datasets = dict.fromkeys(curve.dataset for curve in curves)
        measured = all(curve.resampled is None for curve in curves)
        on = f" on {listed(filter(None, datasets), NAMED)}" if any(datasets) else ""
        who = listed(dict.fromkeys(curve.model for curve in curves), NAMED)
        charts.append(
            Chart(
                title=f"Phases of {series}{on}: {who}",
                x_label="step",
                y_label=series
                if measured
                else ("difference" if " − " in series else "loss") + " (nats a token)",
                panels=panels(datasets, partial(_panel, curves, own)),
                note=_note(own) or without,
                share_y=False,
                keys=models,
                zero=" − " in series,
            )
        )
    return charts


def _note(events: Sequence[Event]) -> str:
    """Explain the symbols that are drawn; empty where there are none."""
    drawn = {_SYMBOLS[event.kind][0] for event in events}
    words = [meaning for symbol, meaning in _MEANINGS.items() if symbol in drawn]
    return " ".join([*words, "Thin lines: their intervals."] if words else [])


def _panel(curves: Sequence[Curve], events: Sequence[Event], dataset: str) -> Iterable[Series]:
    """Each model's curve on a dataset and its events."""
    for curve in (curve for curve in curves if curve.dataset == dataset):
        yield Series(curve.model, numbers(curve.steps), numbers(curve.values), mode="lines", key=curve.model)
        for event in events:
            if (event.model, event.dataset) != (curve.model, curve.dataset):
                continue
            symbol, what = _SYMBOLS[event.kind]
            ends, level = (float(event.low), float(event.high)), (event.value, event.value)
            note = f"{event.kind}: {event.low} to {event.high}"
            drawn = partial(Series, f"{what} {event.step}", key=curve.model, note=note, in_legend=False)
            yield drawn(*(ends, level), mode="lines", faint=True)
            yield drawn((float(event.step),), (event.value,), mode="markers", symbol=symbol)
