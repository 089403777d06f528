"""Charts of results, and the page to look at: figures → charts → files.

`trajectory_chart` and `pca_charts` describe what to draw, `save_chart` draws it as .html, .png, .pdf or .svg, and
`write_report` writes the whole page. Plotly, matplotlib and polars are imported only when something is drawn.
"""

from typing import TYPE_CHECKING

from trajstore.lazy import on_demand
from trajstore.view.charts import Chart, Mark, Panel, Series
from trajstore.view.figures import pca_charts, trajectory_chart
from trajstore.view.report import write_report
from trajstore.view.save import save_chart

__all__ = [
    "Chart",
    "Mark",
    "Panel",
    "Series",
    "pca_charts",
    "save_chart",
    "trajectory_chart",
    "write_report",
]

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
