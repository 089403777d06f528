"""Charts into files: .html by plotly, .png, .pdf and .svg by matplotlib. A file is written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trajstore.errors import PlotError
from trajstore.output_files import check_target, write_whole
from trajstore.view.charts.chart import Chart

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIXES = (".html", ".png", ".pdf", ".svg")
"""The kinds of file a chart can be saved as."""


@dataclass(frozen=True)
class Plot:
    """Charts that a notebook shows, one under the other, and that can be saved."""

    charts: tuple[Chart, ...]

    def save(self, path: Path | str) -> Path:
        """Write them to a file, as `save_chart`."""
        return save_chart(self.charts, path)

    def __repr__(self) -> str:
        return f"Plot({'; '.join(chart.title for chart in self.charts)})"

    def _repr_png_(self) -> bytes:
        from trajstore.view.charts.matplotlib import picture

        return picture(self.charts)


def save_chart(chart: Chart | Sequence[Chart], path: Path | str) -> Path:
    """Write one chart, or several one under the other, as .html (plotly), .png, .pdf or .svg (matplotlib).

    Raises `BadTarget` for another suffix or a folder that does not exist, `PlotError` for nothing to draw.
    """
    target = check_target(path, SUFFIXES)
    charts = [chart] if isinstance(chart, Chart) else list(chart)
    if not any(panel.series for one in charts for panel in one.panels):
        raise PlotError(f"There is nothing to draw, so {target} was not written.")
    if target.suffix.lower() == ".html":
        from trajstore.view.charts.plotly import page

        return write_whole(target, page(charts).encode())
    from trajstore.view.charts.matplotlib import picture

    return write_whole(target, picture(charts, target.suffix.lower().removeprefix(".")))
