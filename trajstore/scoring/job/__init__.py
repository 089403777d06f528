"""A scoring job: the work on a plan's checkpoints, one after another, by whoever hands them out."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
