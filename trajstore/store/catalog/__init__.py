"""The catalog: `catalog.duckdb`, the sessions that ask it, what they may do, and the definitions that it holds."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
