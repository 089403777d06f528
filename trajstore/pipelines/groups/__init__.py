"""Groups of a store: matched subsets, and enrichment among marked tokens."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
