"""Models of a store compared token by token."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
