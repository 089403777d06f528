"""The report: the page of `trajstore serve` with its data inside, for a chosen part of a store."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
