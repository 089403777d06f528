"""The local learning coefficient: how degenerate the minimum is that the weights of a checkpoint sit in."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
