"""Measuring: measures of a run's checkpoints, computed without scoring them again."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
