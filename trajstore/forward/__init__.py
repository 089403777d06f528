"""The forward pass: per-token losses of a causal language model on given contexts. Needs no store."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
