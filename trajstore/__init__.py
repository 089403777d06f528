"""trajstore: per-token losses of language-model checkpoints in a folder of Parquet slices and a DuckDB catalog.

`trajstore.open(path)` gives a `Store`: `.sql()`, `.matrix()`, `.trajectory()`, `.groups`, `.append()`. Modules are
there under their dotted paths, as `trajstore.pipelines.audit`. Importing this package loads neither torch nor
scikit-learn, and nothing heavy before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trajstore.lazy_imports import on_demand
from trajstore.version import __version__

if TYPE_CHECKING:
    import os

    from trajstore.api import Store
    from trajstore.pipelines.components.pca import pca
    from trajstore.pipelines.trajectories import Selection
    from trajstore.store.files.slices import Provenance
    from trajstore.store.matrix.matrix import LossMatrix

__all__ = ["LossMatrix", "Provenance", "Selection", "Store", "__version__", "open", "pca"]

_NAMES = {
    "LossMatrix": "trajstore.store.matrix.matrix",
    "Provenance": "trajstore.store.files.slices",
    "Selection": "trajstore.pipelines.trajectories",
    "Store": "trajstore.api",
    "pca": "trajstore.pipelines.components.pca",
}
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
_on_demand = on_demand(__name__, _NAMES)


def open(path: str | os.PathLike[str] = "store") -> Store:  # noqa: A001 — as sqlite3.connect or h5py.File, it opens
    """The store at `path`; raises `trajstore.errors.StoreNotFound` if there is none."""
    from trajstore.api import Store

    return Store(path)


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES, "__doc__", "__file__", "__name__", "__path__"])


def __getattr__(name: str) -> Any:
    return _on_demand(name)
