"""Matrices of losses: which checkpoints and sites, whole or in blocks, and as files."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
