"""Kept findings on the page: a module for each kind, by its name, with `tables` and `charts`.

`tables(store, finding)` returns a sentence on the result, and tables; `charts(store, finding, marks)` yields charts.
"""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
