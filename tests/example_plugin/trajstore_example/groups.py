"""Groups by what a token looks like."""

import polars as pl


def capitalised(frame: pl.DataFrame) -> pl.Series:
    """Tokens that begin with a capital letter, a space before it left aside."""
    return frame["text"].str.contains(r"^ ?\p{Lu}")
