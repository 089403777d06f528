"""A neutral description of a chart: panels of series, a step axis, marks. Renderers turn it into a file.

A step axis is logarithmic with step 0 kept: a positive step lies at log10(step), and step 0 lies one ordinary
gap left of the first positive one. It is linear instead when there are at most `EVEN_STEPS` steps and their
widest gap is at most twice the narrowest. Ticks and hover texts show the steps themselves either way.

Draws nothing and imports neither plotly nor matplotlib.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trajstore.view.charts.colors import palette

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trajstore.analysis.comparison import Density

Mode = Literal["lines", "markers", "lines+markers", "bars"]
Symbol = Literal["dot", "ring", "square", "diamond"]
MarkerSize = Literal["small", "medium", "large"]

EVEN_STEPS = 30
"""More steps than this are put on a logarithmic axis even when they are evenly spaced."""

MOST_MARKERS = 60
"""A line of more points than this is drawn without a marker at each."""
_FEW_POINTS = 12
"""More points than this without a line are drawn small."""


@dataclass(frozen=True)
class Mark:
    """A vertical line where something happened, such as a change of the training data."""

    step: float
    """Where the line stands, as a step."""
    label: str
    """The event at that step, in a few words."""


@dataclass(frozen=True)
class Series:
    """One curve, set of points, or set of bars. All sequences have one value a point."""

    name: str
    """Its entry in the legend; series of the same name share one entry."""
    x: tuple[float, ...]
    """Steps on a step axis, else values in the axis's units."""
    y: tuple[float, ...]
    """Values in the y axis's units; NaN leaves a gap."""
    low: tuple[float, ...] = ()
    """Lower ends of the interval drawn as a band; empty for none, NaN where it is not known."""
    high: tuple[float, ...] = ()
    """Upper ends of the band."""
    mode: Mode = "lines+markers"
    """Style of the points; lines join them in the order given."""
    key: str = ""
    """Key of the colour: series of one key have one colour. By default the name."""
    symbol: Symbol = "dot"
    """Shape of the markers."""
    steps: tuple[float, ...] = ()
    """Each point's step for the hover text, where x is not a step."""
    note: str = ""
    """A line more for the hover text, the same at every point."""
    in_legend: bool = True
    """True to list it in the legend."""
    faint: bool = False
    """True to draw it thin and pale, for a series that belongs to another curve."""

    @property
    def upright(self) -> bool:
        """Return whether its intervals are lines at its points, since there is no curve that a band could go along."""
        return self.mode == "markers" or len(self.x) == 1

    @property
    def has_markers(self) -> bool:
        """Return whether its points have markers: along a line only where they are few enough."""
        return self.mode == "markers" or (self.mode == "lines+markers" and len(self.x) <= MOST_MARKERS)

    @property
    def marker_size(self) -> MarkerSize:
        """The size of its markers: small along a line, large where a few stand alone."""
        if self.mode != "markers":
            return "small"
        return "large" if len(self.x) <= _FEW_POINTS else "medium"

    @property
    def color_key(self) -> str:
        """The key of its colour."""
        return self.key or self.name


@dataclass(frozen=True)
class Panel:
    """One pair of axes among a chart's small multiples."""

    title: str
    """The part that this panel shows and the others do not; may be empty."""
    series: tuple[Series, ...]
    """Series to draw, the last on top."""
    x_label: str = ""
    """Title of the x axis where it is not the chart's."""
    y_label: str = ""
    """Title of the y axis where it is not the chart's."""
    density: Density | None = None
    """Density to draw under the series."""

    @property
    def has_bars(self) -> bool:
        """Return whether bars are drawn in it."""
        return any(series.mode == "bars" for series in self.series)

    @property
    def band_alpha(self) -> float:
        """The opacity of its bands: the more there are, the less, so that curves are seen through all of them."""
        bands = sum(bool(series.low) for series in self.series)
        return min(0.18, 0.7 / max(bands, 1))


@dataclass(frozen=True)
class Chart:
    """The content of a picture, whatever draws it."""

    title: str
    """Subject of the chart, with its models, datasets and groups; broken into lines where it is long."""
    x_label: str
    """Title of the x axes, with the unit."""
    y_label: str
    """Title of the y axes, with the unit."""
    panels: tuple[Panel, ...]
    """Small multiples in reading order."""
    step_axis: bool = True
    """True if x is a step."""
    marks: tuple[Mark, ...] = ()
    """Vertical lines in every panel; only on a step axis."""
    note: str = ""
    """A line under the title: how to read the chart."""
    columns: int = 0
    """Panels in a row; 0 for up to three, and two for four."""
    share_y: bool = True
    """True if all panels have the same y range."""
    keys: tuple[str, ...] = ()
    """Colour keys in order, so that several charts agree on colours; by default in order of appearance."""
    zero: bool = False
    """True to draw a line at y = 0, as for differences."""
    names: tuple[str, ...] = ()
    """Names of x = 1, 2, …, where they are kinds and no numbers."""

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of panels."""
        columns = self.columns or {4: 2}.get(len(self.panels), min(3, len(self.panels)))
        return max(1, math.ceil(len(self.panels) / max(columns, 1))), max(columns, 1)

    def colors(self) -> dict[str, str]:
        """Colour (#rrggbb) by key."""
        drawn = [series.color_key for panel in self.panels for series in panel.series]
        keys = list(dict.fromkeys([*self.keys, *drawn]))
        return dict(zip(keys, palette(len(keys)), strict=True))

    def legend_names(self) -> list[str]:
        """The legend's entries in order; one alone is not drawn."""
        shown = (series.name for panel in self.panels for series in panel.series if series.in_legend)
        return list(dict.fromkeys(shown))

    def y_label_of(self, i: int) -> str:
        """The title of a panel's y axis; empty where that of the first panel in its row stands for it."""
        shared = self.share_y and i % self.grid[1] > 0
        return self.panels[i].y_label or ("" if shared else self.y_label)

    def x_axis(self, panel: Panel) -> tuple[tuple[float, float], Sequence[float], Sequence[str]] | None:
        """(ends, ticks, their labels) of an x axis of steps, named kinds or numbered bars; None for one of values."""
        if self.step_axis:
            axis = self.axis()
            return (axis.low, axis.high), axis.tick_positions, axis.tick_labels
        if self.names:
            return (0.5, len(self.names) + 0.5), range(1, len(self.names) + 1), self.names
        if panel.has_bars:
            numbers = sorted({x for series in panel.series for x in series.x})
            return bars_range(numbers), numbers, [f"{number:g}" for number in numbers]
        return None

    def axis(self) -> StepAxis:
        """The step axis that all panels share."""
        steps = [step for panel in self.panels for series in panel.series for step in series.x]
        return step_axis(steps, [mark.step for mark in self.marks])


@dataclass(frozen=True)
class StepAxis:
    """The places of steps on an axis."""

    log: bool
    """True if positive steps lie at log10(step); else every step lies at itself."""
    first: float
    """The smallest positive step (1 if there is none)."""
    zero: float
    """Position of step 0."""
    ticks: tuple[float, ...]
    """Steps that get a label."""
    low: float
    """Left end of the axis, a position."""
    high: float
    """Right end of the axis, a position."""

    def position(self, step: float) -> float:
        """Return the place of a step: up to the first positive step in proportion, above it by its logarithm."""
        if not self.log:
            return step
        if step >= self.first:
            return math.log10(step)
        return self.zero + (math.log10(self.first) - self.zero) * max(step, 0.0) / self.first

    @property
    def tick_positions(self) -> list[float]:
        """Positions of the ticks."""
        return [self.position(step) for step in self.ticks]

    @property
    def tick_labels(self) -> list[str]:
        """Labels of the ticks: 0, 10, 1k."""
        return [step_label(step) for step in self.ticks]


def step_axis(steps: Iterable[float], marked: Iterable[float] = ()) -> StepAxis:
    """The axis for these steps, see the module; `marked` steps are in view as well, but do not decide its kind."""
    distinct = sorted({float(step) for step in steps}) or [0.0]
    extent = sorted({*distinct, *(float(step) for step in marked)})
    first = next((step for step in extent if step > 0), 1.0)
    if is_even(distinct):
        margin = 0.03 * (extent[-1] - extent[0]) or 1.0
        ticks = _round_ticks(extent[0], extent[-1])
        return StepAxis(False, first, 0.0, tuple(ticks), extent[0] - margin, extent[-1] + margin)
    logs = [math.log10(step) for step in extent if step > 0]
    span = logs[-1] - logs[0]
    gap = min(max(logs[1] - logs[0], 0.07 * span), 0.2 * span) if span else 1.0
    zero = logs[0] - gap
    left = zero if extent[0] <= 0 else logs[0]
    margin = 0.03 * (logs[-1] - left)
    ticks = [0.0] * (extent[0] <= 0) + _log_ticks([step for step in extent if step > 0])
    return StepAxis(True, first, zero, tuple(ticks), left - margin, logs[-1] + margin)


def is_even(distinct: Sequence[float]) -> bool:
    """Return whether sorted, distinct steps are few and evenly spaced, so that a linear axis suits them."""
    gaps = [after - before for before, after in itertools.pairwise(distinct)]
    return not gaps or (len(distinct) <= EVEN_STEPS and max(gaps) <= 2 * min(gaps))


def _log_ticks(steps: Sequence[float]) -> list[float]:
    """Powers of ten within sorted positive steps; if fewer than three, 1-2-5; if fewer still, some of the steps."""
    decades = range(math.floor(math.log10(steps[0])), math.ceil(math.log10(steps[-1])) + 1)
    for factors in ((1,), (1, 2, 5)):
        ticks = [float(f * 10**d) for d in decades for f in factors if steps[0] <= f * 10**d <= steps[-1]]
        if len(ticks) >= 3:
            return ticks
    apart = (math.log10(steps[-1]) - math.log10(steps[0])) / 5
    chosen = [steps[0]]
    for step in steps[1:]:
        if math.log10(step) - math.log10(chosen[-1]) >= apart:
            chosen.append(step)
    return chosen


def _round_ticks(low: float, high: float) -> list[float]:
    """Four to eight multiples of 1, 2 or 5 times a power of ten that lie from low to high."""
    if high <= low:
        return [low]
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    width = next(f * unit for f in (1, 2, 5, 10) if f * unit >= 0.75 * rough)
    width = max(width, 1.0)
    return [i * width for i in range(math.ceil(low / width - 1e-9), math.floor(high / width + 1e-9) + 1)]


def bars_range(numbers: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis of numbered bars in ascending order; few stand in its middle, no wider than four would be."""
    half = max((numbers[-1] - numbers[0]) / 2 + 0.6, 2.1)
    middle = (numbers[0] + numbers[-1]) / 2
    return middle - half, middle + half


def step_label(step: float) -> str:
    """A step, or a number of tokens or operations, in few characters: 0, 512, 1448, 2.5k, 143k, 1M, 300B, 2e18."""
    if step >= 10**12:
        return f"{step:.3g}".replace("e+", "e")
    if step != round(step):
        return f"{step:.4g}"
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if step >= size and step % (size / 10) == 0:
            return f"{step / size:g}{letter}"
    return f"{step:.15g}"


def wrapped(words: str, letters: float) -> list[str]:
    """Words in lines of at most so many letters; a name is broken only where it is longer than a line."""
    return textwrap.wrap(words, max(int(letters), 10), break_on_hyphens=False)


def mark_rows(marks: Sequence[Mark], axis: StepAxis, letters: float) -> list[int]:
    """The row from the top, from 0, in which each mark's label meets no other; `letters` fit beside each other.

    A label stands right of its mark in the left half of the axis, else left of it.
    """
    taken: list[list[tuple[float, float]]] = []
    rows = []
    for mark in marks:
        at = letters * (axis.position(mark.step) - axis.low) / (axis.high - axis.low)
        width = len(mark.label) + 1
        own = (at - width, at) if is_right(mark, axis) else (at, at + width)
        free = (all(own[1] <= a or b <= own[0] for a, b in row) for row in taken)
        row = next((number for number, fits in enumerate(free) if fits), len(taken)) if mark.label else 0
        if mark.label:
            taken += [[]] * (row == len(taken))
            taken[row] = [*taken[row], own]
        rows.append(row)
    return rows


def is_right(mark: Mark, axis: StepAxis) -> bool:
    """Return whether a mark stands in the right half of the axis."""
    return axis.position(mark.step) > (axis.low + axis.high) / 2


def density_ticks(density: Density) -> tuple[int, list[int]]:
    """The most points in a cell, at least 2, and ticks up to there of a logarithmic colour bar: 1, 2, 5, 10, …"""
    most = max(2, *(max(row) for row in density.counts))
    return most, [f * 10**d for d in range(len(str(most))) for f in (1, 2, 5) if f * 10**d <= most]
