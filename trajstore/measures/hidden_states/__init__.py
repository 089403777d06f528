"""Measures of hidden states: the residual stream before the first block and after each block."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
