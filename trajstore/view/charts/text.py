"""Charts in characters, for a terminal: curves in Braille dots, a letter at the end of each, and its last value.

Bands have no room: the interval of the last value stands beside it. Units are those of the chart's axis titles.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajstore.text import shown
from trajstore.view.charts.chart import step_axis, step_label

if TYPE_CHECKING:
    from rich.text import Text

    from trajstore.view.charts.chart import Chart, Panel, Series, StepAxis

HEIGHT = 10
"""Lines of a panel's plot."""
_MARGIN = 9
"""Columns left of a plot, for the y axis."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def text(chart: Chart, width: int = 80) -> Text:
    """The chart's panels, one under the other, in lines of at most `width` columns where that is 40 or more.

    The chart has a step axis.
    """
    from rich.text import Text

    plot = _Plot(chart, max(width, 40) - _MARGIN)
    lines = [Text(shown(chart.title), "bold"), Text(shown(f"{chart.y_label}, by {chart.x_label}"))]
    for panel in chart.panels:
        lines += [Text(""), *([Text(shown(panel.title), "bold")] if panel.title else []), *plot.panel(panel)]
    return Text("\n").join(lines)


@dataclass
class _Plot:
    """The properties that the panels of a chart share."""

    chart: Chart
    columns: int

    def __post_init__(self) -> None:
        """Axes and colours."""
        self.axis: StepAxis = step_axis(
            x for panel in self.chart.panels for series in panel.series for x in series.x
        )
        self.colors = self.chart.colors()

    def panel(self, panel: Panel) -> list[Text]:
        """Lines of one panel: plot, x axis, and a line for each series."""
        from rich.text import Text

        shown = self.chart.panels if self.chart.share_y else (panel,)
        low, high = _extent(shown, self.chart.zero)
        dots = [[0] * self.columns for _ in range(HEIGHT)]
        inks = [[""] * self.columns for _ in range(HEIGHT)]
        letters: dict[tuple[int, int], str] = {}
        if self.chart.zero:
            row = _row(0.0, low, high)
            for column in range(0, 2 * self.columns, 4):
                _dot(dots, row, column)
        for letter, series in zip(itertools.cycle(_LETTERS), panel.series, strict=False):
            at = (0, 0)
            for row, column in self._path(series, low, high):
                _dot(dots, row, column)
                at = (row // 4, column // 2)
                inks[at[0]][at[1]] = self.colors[series.color_key]
            while at in letters and at[1] > 0:
                at = (at[0], at[1] - 1)
            letters[at] = letter
            inks[at[0]][at[1]] = self.colors[series.color_key]
        digits = 2 if high - low >= 0.2 else 4
        labels = {0: high, HEIGHT // 2: (low + high) / 2, HEIGHT - 1: low}
        lines = []
        for row in range(HEIGHT):
            line = Text(f"{labels[row]:7.{digits}f} ┤" if row in labels else f"{'':7} │")
            for column in range(self.columns):
                cell = letters.get((row, column)) or chr(0x2800 + dots[row][column])
                line.append(cell, inks[row][column] or None)
            lines.append(line)
        return [*lines, *self._x_axis(), *self._legend(panel)]

    def _path(self, series: Series, low: float, high: float) -> list[tuple[int, int]]:
        """(row, column) of the dots of a curve, straight between its points, with gaps where a value is missing."""
        span = self.axis.high - self.axis.low
        points = [
            ((self.axis.position(x) - self.axis.low) / span * (2 * self.columns - 1), _row(y, low, high))
            for x, y in zip(series.x, series.y, strict=True)
        ]
        path = []
        for (x0, y0), (x1, y1) in itertools.pairwise([*points, *points[-1:]]):
            if not (math.isfinite(y0) and math.isfinite(y1)):
                continue
            n = max(1, math.ceil(max(abs(x1 - x0), abs(y1 - y0))))
            path += [(round(y0 + (y1 - y0) * i / n), round(x0 + (x1 - x0) * i / n)) for i in range(n + 1)]
        return path

    def _x_axis(self) -> list[Text]:
        """The line under a plot, and the ticks' labels where they have room."""
        from rich.text import Text

        line, labels = ["─"] * self.columns, [" "] * self.columns
        free = 0
        span = self.axis.high - self.axis.low
        for tick, place in zip(self.axis.ticks, self.axis.tick_positions, strict=True):
            column = int((place - self.axis.low) / span * (self.columns - 1))
            name = step_label(tick)
            start = min(max(0, column - len(name) // 2), self.columns - len(name))
            if start >= free:
                line[column] = "┬"
                labels[start : start + len(name)] = name
                free = start + len(name) + 1
        return [Text(f"{'':7} └{''.join(line)}"), Text(f"{'':{_MARGIN}}{''.join(labels).rstrip()}")]

    def _legend(self, panel: Panel) -> list[Text]:
        """A line for each series: its letter, name, and last value with its interval."""
        from rich.text import Text

        lines = []
        for letter, series in zip(itertools.cycle(_LETTERS), panel.series, strict=False):
            line = (
                Text(f"{'':{_MARGIN}}")
                .append(letter, self.colors[series.color_key])
                .append(f" {shown(series.name)}")
            )
            if series.y:
                line.append(f"  {series.y[-1]:.3f}")
                if series.low and math.isfinite(series.low[-1]):
                    line.append(f" ({series.low[-1]:.3f} to {series.high[-1]:.3f})")
                line.append(f" at step {step_label((series.steps or series.x)[-1])}")
            lines.append(line)
        return lines


def _extent(panels: tuple[Panel, ...], zero: bool) -> tuple[float, float]:
    """The smallest and the largest y, a little apart."""
    values = [y for panel in panels for series in panel.series for y in series.y if math.isfinite(y)] or [0.0]
    low, high = min([*values, *[0.0] * zero]), max([*values, *[0.0] * zero])
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _row(y: float, low: float, high: float) -> float:
    """The row of dots of a value, from the top."""
    return (high - y) / (high - low) * (4 * HEIGHT - 1)


def _dot(dots: list[list[int]], row: float, column: int) -> None:
    at = round(row)
    dots[at // 4][column // 2] |= _DOTS[at % 4][column % 2]
