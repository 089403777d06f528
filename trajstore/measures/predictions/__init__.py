"""Measures of predictions: how they differ from counts of tokens, and how sure and how right they are."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
