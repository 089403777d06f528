"""SQL over a store: queries, named queries, what can be asked, and the shell."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
