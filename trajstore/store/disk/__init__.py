"""Files below their contents: digests, footers, names exchanged at once, and space for sorting."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
