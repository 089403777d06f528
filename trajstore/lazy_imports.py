"""Imports when they are first needed, so that importing a package stays light, and without collecting garbage."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


def on_demand(package: str, names: Mapping[str, str] | None = None) -> None:
    """Let a package, while it is imported, import its own modules, and what those of `names` hold, by need."""
    known = names or {}

    def get(name: str) -> Any:
        """Return the name's value or module; raises `AttributeError`."""
        if name in known:
            return getattr(importlib.import_module(known[name]), name)
        module = f"{package}.{name}"
        if not name.startswith("_"):
            try:
                return importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    vars(sys.modules[package])["__getattr__"] = get


@contextmanager
def without_collection() -> Iterator[None]:
    """Make no garbage collection inside the block, which is for imports of large libraries.

    They make hundreds of thousands of objects that stay, and looking through those again and again is a fifth of their
    time. At the end these count as old, so that they are next looked through with all others.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():  # else those that somebody has frozen would thaw as well
                gc.freeze()
                gc.unfreeze()
            gc.enable()
