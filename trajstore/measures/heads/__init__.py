"""Measures of attention heads: of what they attend to, of their matrices, and of what is lost without them."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
