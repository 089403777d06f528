"""Measures of a checkpoint: scalars beside its losses, trajstore's own and those of other packages."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if TYPE_CHECKING:
    from trajstore.forward.logit_tile import LogitTile
    from trajstore.measures.definitions import MeasureDefinition, MeasureInputs
    from trajstore.measures.run import measure
    from trajstore.measures.streams import Batch, PassFacts, Predictions, Stream
    from trajstore.store.files.measures import Measure

__all__ = [
    "Batch",
    "LogitTile",
    "Measure",
    "MeasureDefinition",
    "MeasureInputs",
    "PassFacts",
    "Predictions",
    "Stream",
    "measure",
]

_NAMES = {
    "Batch": "trajstore.measures.streams",
    "LogitTile": "trajstore.forward.logit_tile",
    "Measure": "trajstore.store.files.measures",
    "MeasureDefinition": "trajstore.measures.definitions",
    "MeasureInputs": "trajstore.measures.definitions",
    "PassFacts": "trajstore.measures.streams",
    "Predictions": "trajstore.measures.streams",
    "Stream": "trajstore.measures.streams",
    "measure": "trajstore.measures.run",
}

on_demand(__name__, _NAMES)
