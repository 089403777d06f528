"""Phases as charts: each curve with its events and their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.view.charts import Chart, Panel, Series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trajstore.analysis.phases import Curve, Event
    from trajstore.view.charts import Symbol
    from trajstore.view.phases import Phases

_SYMBOLS: dict[str, tuple[Symbol, str]] = {
    "change": ("diamond", "changes"),
    "minimum": ("ring", "turns"),
    "maximum": ("ring", "turns"),
    "fastest_fall": ("square", "is fastest"),
    "fastest_rise": ("square", "is fastest"),
    "induction": ("dot", "induction"),
}
_NOTE = (
    "Diamond: the course changes. Ring: a minimum or maximum. Square: falls or rises fastest. Dot: induction. "
    "Horizontal lines: their intervals."
)


def phase_charts(found: Phases) -> list[Chart]:
    """A chart of each series, with a panel for each dataset, models coloured."""
    models = tuple(dict.fromkeys(curve.model for curve in found.curves))
    charts = []
    for series in dict.fromkeys(curve.series for curve in found.curves):
        curves = [curve for curve in found.curves if curve.series == series]
        own = [event for event in found.events if event.series == series]
        datasets = list(dict.fromkeys(curve.dataset for curve in curves))
        panels = [
            Panel(dataset, tuple(_panel([c for c in curves if c.dataset == dataset], own)))
            for dataset in datasets
        ]
        measured = all(curve.resampled is None for curve in curves)
        subject = f", {models[0]}" if len(models) == 1 else ""
        charts.append(
            Chart(
                title=f"Phases of {series}{subject}",
                x_label="step",
                y_label=series
                if measured
                else ("difference" if " − " in series else "loss") + " (nats a token)",
                panels=tuple(panels),
                note=_NOTE,
                share_y=False,
                keys=models,
                zero=" − " in series,
            )
        )
    return charts


def _panel(curves: Sequence[Curve], events: Sequence[Event]) -> Iterable[Series]:
    """Each model's curve and its events."""
    for curve in curves:
        yield Series(curve.model, _floats(curve.steps), _floats(curve.values), mode="lines", key=curve.model)
        for event in events:
            if (event.model, event.dataset) != (curve.model, curve.dataset):
                continue
            symbol, what = _SYMBOLS[event.kind]
            ends, level = (float(event.low), float(event.high)), (event.value, event.value)
            note = f"{event.kind}: {event.low} to {event.high}"
            yield Series(
                f"{what} {event.step}", ends, level, mode="lines", key=curve.model, note=note, in_legend=False
            )
            at = (float(event.step),), (event.value,)
            yield Series(
                f"{what} {event.step}",
                *at,
                mode="markers",
                key=curve.model,
                symbol=symbol,
                note=note,
                in_legend=False,
            )


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
