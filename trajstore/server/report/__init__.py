"""The report: the page of `trajstore serve` with its data inside, for a chosen part of a store."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
