"""Differences of a store's losses between steps, models or prompts."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
