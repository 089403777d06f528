"""Measures of weights: their size, rank and change, and what the output head can say by itself."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
