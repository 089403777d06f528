"""Measures of a checkpoint: scalars beside its losses, trajstore's own and those of other packages."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if TYPE_CHECKING:
    from trajstore.measures.definitions import MeasureDefinition, MeasureInputs
    from trajstore.store.files.measures import Measure

__all__ = ["Measure", "MeasureDefinition", "MeasureInputs"]

_NAMES = {
    "Measure": "trajstore.store.files.measures",
    "MeasureDefinition": "trajstore.measures.definitions",
    "MeasureInputs": "trajstore.measures.definitions",
}

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__, _NAMES)
