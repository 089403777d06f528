"""The catalog: `catalog.duckdb`, the sessions that ask it, what they may do, and the definitions that it holds."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
