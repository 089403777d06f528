"""Audit: what is wrong with the losses of a run, told from the losses alone."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
