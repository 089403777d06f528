"""Phases: when curves over training change course, turn, fall and rise fastest."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
