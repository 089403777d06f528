"""Measures of kinds of text: how well hidden states tell them apart."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
