"""The words that arguments take where there are a few.

Loads nothing, so that the command line can name them at once.
"""

from __future__ import annotations

from typing import Literal

Align = Literal["predict", "after"]
"""Which losses a group's tokens stand for: their own, or those of the tokens after them."""
Missing = Literal["error", "nan"]
"""Treatment of a slice that is not there: an error, or losses of NaN."""
X = Literal["step", "tokens", "flops"]
"""Along what a curve is drawn."""
By = Literal["dataset", "model"]
"""Pooling of curves: one for each dataset, or one for each model."""
IntervalKind = Literal["bootstrap", "studentised", "none"]
"""Method of the interval of a mean."""
Center = Literal["all", "model"]
"""Over which rows a column is centred: all, or those of each model."""
Lacking = Literal["error", "drop-columns", "mean"]
"""Treatment of a column that lacks losses."""
Precision = Literal["double", "single"]
"""Of dot products."""
ComponentsKind = Literal["full", "sparse", "hybrid"]
"""Principal components, sparse ones, or sparse ones of the principal."""
Prompting = Literal["zero", "few"]
"""Number of solved problems before a problem."""
MatrixAlign = Literal[Align, "item"]
"""As `Align`, or the same columns for datasets of the same items."""
Probe = Literal["repeats", "natural"]
"""The contexts that heads are looked at on: random tokens that repeat, or the beginnings of a dataset's contexts."""
Divergence = Literal["model||counts", "counts||model"]
"""Direction of the KL between a model's predictions and the counts of tokens: the expectation is over the first."""
