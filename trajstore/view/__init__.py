"""Charts of results: figures → charts → files.

`trajectory_chart` and `pca_charts` describe what to draw, `save_chart` draws it as .html, .png, .pdf or .svg. Plotly,
matplotlib and polars are imported only when something is drawn.
"""

from trajstore.lazy_imports import on_demand
from trajstore.view.charts.chart import Chart, Mark, Panel, Series
from trajstore.view.charts.save import save_chart
from trajstore.view.figures.pca import pca_charts
from trajstore.view.figures.trajectories import trajectory_chart

__all__ = ["Chart", "Mark", "Panel", "Series", "pca_charts", "save_chart", "trajectory_chart"]

on_demand(__name__)
