"""The files of a store: one module a kind of file, and how they are published whole."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
