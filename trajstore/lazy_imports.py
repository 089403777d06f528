"""Names and modules of a package that are imported when they are first used, so that importing it stays light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def on_demand(package: str, names: Mapping[str, str] | None = None) -> Callable[[str], Any]:
    """The `__getattr__` of a package: what the modules of `names` hold, by name, and the package's own modules."""
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

    return get
