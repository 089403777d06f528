"""Losses computed elsewhere, into a store: tables in the long format and matrices, in files of any size."""

from trajstore.importers.ingest import Failure, Report
from trajstore.lazy_imports import on_demand

__all__ = ["Failure", "Report"]

on_demand(__name__)
