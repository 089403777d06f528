"""Pipelines: analyses from a store into a store. Losses in, results and findings out."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if TYPE_CHECKING:
    from trajstore.pipelines.definition import AnalysisDefinition, AnalysisResult
    from trajstore.store.files.finding_kinds import Column

__all__ = ["AnalysisDefinition", "AnalysisResult", "Column"]

_NAMES = {
    "AnalysisDefinition": "trajstore.pipelines.definition",
    "AnalysisResult": "trajstore.pipelines.definition",
    "Column": "trajstore.store.files.finding_kinds",
}

on_demand(__name__, _NAMES)
