"""The words that arguments take where there are a few.

Loads nothing, so that the command line can name them at once.
"""

from __future__ import annotations

from typing import Literal

Align = Literal["predict", "after"]
"""Which losses a group's tokens stand for: their own, or those of the tokens after them."""
Missing = Literal["error", "nan"]
"""What the losses of a slice are that is not there."""
X = Literal["step", "tokens", "flops"]
"""Along what a curve is drawn."""
By = Literal["dataset", "model"]
"""What curves are pooled to."""
IntervalKind = Literal["bootstrap", "studentised", "none"]
"""How the interval of a mean is found."""
Center = Literal["all", "model"]
"""Over which rows a column is centred: all, or those of each model."""
Lacking = Literal["error", "drop-columns", "mean"]
"""What becomes of a column with losses that are not there."""
Precision = Literal["double", "single"]
"""Of dot products."""
ComponentsKind = Literal["full", "sparse", "hybrid"]
"""Principal components, sparse ones, or sparse ones of the principal."""
Prompting = Literal["zero", "few"]
"""How many solved problems stand before a problem."""
MatrixAlign = Literal[Align, "item"]
"""As `Align`, or the same columns for datasets of the same items."""
Probe = Literal["repeats", "natural"]
"""The contexts that heads are looked at on: random tokens that repeat, or the beginnings of a dataset's contexts."""
