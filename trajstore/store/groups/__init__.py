"""Token groups: definitions, the views they become, and tables of sites that functions or users gave."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
