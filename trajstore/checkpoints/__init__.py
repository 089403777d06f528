"""Checkpoints: published suites and runs, their revisions, and their files on the Hub or on disk. Needs no store."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
