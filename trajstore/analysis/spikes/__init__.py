"""Spikes of the mean loss, and which tokens follow them or go against them."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
