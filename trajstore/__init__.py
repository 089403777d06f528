"""trajstore: per-token losses of language-model checkpoints in a folder of Parquet slices and a DuckDB catalog.

`trajstore.open(path)` gives a `Store`: `.sql()`, `.matrix()`, `.trajectory()`, `.groups`, `.append()`. Each analysis is
one function: `trajstore.pca(store, Selection("docs"))` and the like give a result with `.table(name)`, `.plot()` and
`.keep()`. Modules are there under their dotted paths, as `trajstore.pipelines.audit`. Importing this package loads
neither torch nor scikit-learn, and nothing heavy before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand
from trajstore.version import __version__ as __version__

if TYPE_CHECKING:
    import os

    from trajstore.analysis.statistics.bootstrap import Interval as Interval
    from trajstore.analysis.trajectories import Comparison as Comparison
    from trajstore.forward.losses import token_losses as token_losses
    from trajstore.forward.losses import token_scores as token_scores
    from trajstore.importers.ingest import ingest as ingest
    from trajstore.pipelines.audit import audit as audit
    from trajstore.pipelines.comparison.comparison import compare as compare
    from trajstore.pipelines.components.pca import pca as pca
    from trajstore.pipelines.differences.result import diff as diff
    from trajstore.pipelines.measures.head_kinds import head_kinds as head_kinds
    from trajstore.pipelines.measures.head_match import head_match as head_match
    from trajstore.pipelines.measures.unigram_first import unigram_first as unigram_first
    from trajstore.pipelines.phases import phases as phases
    from trajstore.pipelines.shapes import shapes as shapes
    from trajstore.pipelines.spikes import spikes as spikes
    from trajstore.pipelines.trajectories import trajectories as trajectories
    from trajstore.pipelines.trajectory_result import trajectory as trajectory
    from trajstore.scoring.callback import TrajectoryCallback as TrajectoryCallback
    from trajstore.scoring.measuring.run import measure as measure
    from trajstore.scoring.run import score as score
    from trajstore.store.files.measures import Measure as Measure
    from trajstore.store.files.slices import Provenance as Provenance
    from trajstore.store.matrix.matrix import LossMatrix as LossMatrix
    from trajstore.store.matrix.selection import Selection as Selection
    from trajstore.store.store import Store as Store

_MODULES = {
    "Comparison": "trajstore.analysis.trajectories",
    "Interval": "trajstore.analysis.statistics.bootstrap",
    "LossMatrix": "trajstore.store.matrix.matrix",
    "Measure": "trajstore.store.files.measures",
    "Provenance": "trajstore.store.files.slices",
    "Selection": "trajstore.store.matrix.selection",
    "Store": "trajstore.store.store",
    "TrajectoryCallback": "trajstore.scoring.callback",
    "audit": "trajstore.pipelines.audit",
    "compare": "trajstore.pipelines.comparison.comparison",
    "diff": "trajstore.pipelines.differences.result",
    "head_kinds": "trajstore.pipelines.measures.head_kinds",
    "head_match": "trajstore.pipelines.measures.head_match",
    "ingest": "trajstore.importers.ingest",
    "pca": "trajstore.pipelines.components.pca",
    "measure": "trajstore.scoring.measuring.run",
    "phases": "trajstore.pipelines.phases",
    "score": "trajstore.scoring.run",
    "shapes": "trajstore.pipelines.shapes",
    "spikes": "trajstore.pipelines.spikes",
    "token_losses": "trajstore.forward.losses",
    "token_scores": "trajstore.forward.losses",
    "trajectories": "trajstore.pipelines.trajectories",
    "trajectory": "trajstore.pipelines.trajectory_result",
    "unigram_first": "trajstore.pipelines.measures.unigram_first",
}
__all__ = sorted([*_MODULES, "__version__", "open"])
_PACKAGES = (
    "analysis",
    "checkpoints",
    "datasets",
    "errors",
    "forward",
    "groupfunctions",
    "importers",
    "measures",
    "pipelines",
    "scoring",
    "store",
    "view",
)
on_demand(__name__, _MODULES)


def open(path: str | os.PathLike[str] = "store") -> Store:  # noqa: A001 — as sqlite3.connect or h5py.File, it opens
    """The store at `path`; raises `trajstore.errors.StoreNotFound` if there is none."""
    from trajstore.store.store import Store

    return Store(path)


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES, "__doc__", "__file__", "__name__", "__path__"])
