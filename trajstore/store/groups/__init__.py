"""Token groups: definitions, the views they become, and tables of sites that functions or users gave."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
