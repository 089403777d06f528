"""Statistics that several analyses share: intervals, noise, enrichment, matching, curves."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
