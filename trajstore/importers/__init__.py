"""Losses computed elsewhere, into a store: tables in the long format and matrices, in files of any size."""

from __future__ import annotations

from trajstore.importers.job import Failure, Report, ingest

__all__ = ["Failure", "Report", "ingest"]
