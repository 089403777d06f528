"""Losses computed elsewhere, into a store: tables in the long format and matrices, in files of any size."""

from typing import TYPE_CHECKING

from trajstore.importers.ingest import Failure, Report
from trajstore.lazy_imports import on_demand

__all__ = ["Failure", "Report"]

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
