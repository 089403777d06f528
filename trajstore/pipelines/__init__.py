"""Pipelines: analyses from a store into a store. Losses in, results and findings out."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
