"""Weights of checkpoints in memory: read once, hashed on the way, and put into a model that is there."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
