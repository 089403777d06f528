"""Datasets: from a source of texts to fixed contexts of token ids under one tokenizer."""

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__)
