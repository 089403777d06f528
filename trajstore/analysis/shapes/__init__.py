"""Shapes: which form a token's losses follow over log step."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
