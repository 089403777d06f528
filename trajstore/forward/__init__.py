"""The forward pass: per-token losses of a causal language model on given contexts. Needs no store."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
