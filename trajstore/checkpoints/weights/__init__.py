"""Weights of checkpoints in memory: read once, hashed on the way, and put into a model that is there."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
