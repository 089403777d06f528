"""trajstore: per-token losses of language-model checkpoints in a folder of Parquet slices and a DuckDB catalog.

`trajstore.open(path)` gives a `Store`: `.sql()`, `.matrix()`, `.trajectory()`, `.groups`, `.append()`. Each analysis is
one function: `trajstore.pca(store, Selection("docs"))` and the like give a result with `.table(name)`, `.plot()` and
`.keep()`. Modules are there under their dotted paths, as `trajstore.pipelines.audit`. Importing this package loads
neither torch nor scikit-learn, and nothing heavy before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trajstore.lazy_imports import on_demand
from trajstore.version import __version__

if TYPE_CHECKING:
    import os

    from trajstore.analysis.statistics.bootstrap import Interval
    from trajstore.analysis.trajectories import Comparison
    from trajstore.api import Store
    from trajstore.forward.losses import token_losses, token_scores
    from trajstore.importers.ingest import ingest
    from trajstore.pipelines.audit import audit
    from trajstore.pipelines.comparison.comparison import compare
    from trajstore.pipelines.components.pca import pca
    from trajstore.pipelines.differences.diff import diff
    from trajstore.pipelines.phases import phases
    from trajstore.pipelines.shapes import shapes
    from trajstore.pipelines.spikes import spikes
    from trajstore.pipelines.trajectories import trajectories
    from trajstore.pipelines.trajectory_result import trajectory
    from trajstore.scoring.callback import TrajectoryCallback
    from trajstore.scoring.run import score
    from trajstore.store.files.measures import Measure
    from trajstore.store.files.slices import Provenance
    from trajstore.store.matrix.matrix import LossMatrix
    from trajstore.store.matrix.selection import Selection

_MODULES = {
    "Comparison": "trajstore.analysis.trajectories",
    "Interval": "trajstore.analysis.statistics.bootstrap",
    "LossMatrix": "trajstore.store.matrix.matrix",
    "Measure": "trajstore.store.files.measures",
    "Provenance": "trajstore.store.files.slices",
    "Selection": "trajstore.store.matrix.selection",
    "Store": "trajstore.api",
    "TrajectoryCallback": "trajstore.scoring.callback",
    "audit": "trajstore.pipelines.audit",
    "compare": "trajstore.pipelines.comparison.comparison",
    "diff": "trajstore.pipelines.differences.diff",
    "ingest": "trajstore.importers.ingest",
    "pca": "trajstore.pipelines.components.pca",
    "phases": "trajstore.pipelines.phases",
    "score": "trajstore.scoring.run",
    "shapes": "trajstore.pipelines.shapes",
    "spikes": "trajstore.pipelines.spikes",
    "token_losses": "trajstore.forward.losses",
    "token_scores": "trajstore.forward.losses",
    "trajectories": "trajstore.pipelines.trajectories",
    "trajectory": "trajstore.pipelines.trajectory_result",
}
__all__ = [
    "Comparison",
    "Interval",
    "LossMatrix",
    "Measure",
    "Provenance",
    "Selection",
    "Store",
    "TrajectoryCallback",
    "__version__",
    "audit",
    "compare",
    "diff",
    "ingest",
    "open",
    "pca",
    "phases",
    "score",
    "shapes",
    "spikes",
    "token_losses",
    "token_scores",
    "trajectories",
    "trajectory",
]
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
_on_demand = on_demand(__name__, _MODULES)


def open(path: str | os.PathLike[str] = "store") -> Store:  # noqa: A001 — as sqlite3.connect or h5py.File, it opens
    """The store at `path`; raises `trajstore.errors.StoreNotFound` if there is none."""
    from trajstore.api import Store

    return Store(path)


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES, "__doc__", "__file__", "__name__", "__path__"])


def __getattr__(name: str) -> Any:
    return _on_demand(name)
