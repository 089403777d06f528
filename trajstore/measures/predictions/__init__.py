"""Measures of predictions: how they differ from counts of tokens, and how sure and how right they are."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
