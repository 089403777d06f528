"""Measures of attention heads: of what they attend to, of their matrices, and of what is lost without them."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
