"""Figures: from the result of an analysis to charts."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
