"""trajstore: per-token losses of language-model checkpoints in a folder of Parquet slices and a DuckDB catalog.

`trajstore.open(path)` gives a `Store`: `.sql()`, `.matrix()`, `.groups`, `.append()`. Importing this package loads
neither torch nor scikit-learn, and nothing heavy before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from trajstore.store.matrix import LossMatrix
    from trajstore.store.slices import Provenance
    from trajstore.store.store import Store

__version__ = "0.1.0"
__all__ = ["LossMatrix", "Provenance", "Store", "__version__", "open"]

_LAZY = {
    "LossMatrix": "trajstore.store.matrix",
    "Provenance": "trajstore.store.slices",
    "Store": "trajstore.store.store",
}


def open(path: str | os.PathLike[str] = "store") -> Store:  # noqa: A001 — as sqlite3.connect or h5py.File, it opens
    """The store at `path`; raises `trajstore.errors.StoreNotFound` if there is none."""
    from trajstore.store.store import Store

    return Store(path)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, "analysis", "scoring"])


def __getattr__(name: str) -> Any:
    import importlib

    if name in ("analysis", "scoring"):
        return importlib.import_module(f"trajstore.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
