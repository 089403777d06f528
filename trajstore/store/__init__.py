"""The store: the only code that touches its files and the only one that opens DuckDB."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
