"""The local learning coefficient: how degenerate the minimum is that the weights of a checkpoint sit in."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
