"""Datasets: from a source of texts to fixed contexts of token ids under one tokenizer."""

from trajstore.lazy_imports import on_demand

on_demand(__name__)
