"""Files below their contents: digests, footers, names exchanged at once, and space for sorting."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
