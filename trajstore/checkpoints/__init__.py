"""Checkpoints: published suites and runs, their revisions, and their files on the Hub or on disk. Needs no store."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
