"""Arguments of functions and commands: their words, their other names, and how messages spell them."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
