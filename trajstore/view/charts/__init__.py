"""Charts: one description of a chart (`chart`), drawn by plotly for pages and by matplotlib for files."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
