"""A scoring job: the work on a plan's checkpoints, one after another, by whoever hands them out."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
