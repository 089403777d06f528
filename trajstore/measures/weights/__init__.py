"""Measures of weights: their size, rank and change, and what the output head can say by itself."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
