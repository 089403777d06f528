"""Executors: how a scoring plan is run beyond one process, with a time limit or on a Ray cluster."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
