"""Executors: how a scoring plan is run beyond one process, with a time limit or on a Ray cluster."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
