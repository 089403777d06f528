"""Principal components of a store: computed, brought up to date, and by group."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
