"""Principal components of loss matrices: full, sparse and hybrid."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
