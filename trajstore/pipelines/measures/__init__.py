"""Curves of measures by step, and differences and means of them."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
