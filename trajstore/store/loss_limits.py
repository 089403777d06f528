"""Limits of losses: which numbers cannot be losses in nats, and which slices are hardly in nats for their vocabulary.

A single loss is finite, not further below 0 than rounding leads, and not above what the logits of float16 can span.
A slice is judged by its mean and its highest loss: a model that spreads its guess over all V entries of a vocabulary
loses ln V a token, a bad start or a confident model several times that, and perplexities are soon far beyond. A mean
above 5 ln V, or a loss above 20 ln V, is hardly nats: 54 and 217 nats for a vocabulary of 50,277. V is taken as 2¹⁵
at least, since heads are wider than small tokenizers. Logits with a standard deviation of 8, ten times that of a usual
start, give means below 40.
"""

from __future__ import annotations

import math

import numpy as np

from trajstore.schema import HIGHEST_LOSS, LOWEST_LOSS

OTHER_UNITS = "bits and perplexities become nats with trajstore ingest --unit bits|perplexity"
"""Said where losses are too large."""
_SMALLEST_VOCABULARY = 1 << 15
_MEAN = 5
_HIGHEST = 20


def lowest_loss(dtype: str) -> float:
    """The lowest loss (nats) that rounding explains in a forward pass of this dtype."""
    return LOWEST_LOSS.get(dtype, LOWEST_LOSS["float32"])


def possible(losses: np.ndarray, dtype: str) -> np.ndarray:
    """Return whether each number can be a loss in nats of a forward pass of this dtype, bool; NaN cannot."""
    # A comparison with NaN is false, and warns for none that is quiet.
    with np.errstate(invalid="ignore"):
        mask: np.ndarray = (losses >= lowest_loss(dtype)) & (losses <= HIGHEST_LOSS)
    return mask


def rule(dtype: str, loss: float) -> str:
    """The rule that this loss breaks, in words, and for one too high how other units become nats."""
    said = f"a loss is finite, at least {lowest_loss(dtype):g} and at most {HIGHEST_LOSS:.0f} nats"
    return f"{said}; {OTHER_UNITS}" if HIGHEST_LOSS < loss < math.inf else said


def largest(vocabulary: int) -> tuple[float, float]:
    """The largest mean of a slice in nats, and the largest loss in it, for a tokenizer of this size."""
    uniform = math.log(max(vocabulary, _SMALLEST_VOCABULARY))
    return _MEAN * uniform, _HIGHEST * uniform


def guess_in_bits(losses: np.ndarray, vocabulary: int) -> str | None:
    """Return how losses look like those of a guess among the vocabulary in bits, with their little spread, or None.

    In nats, a start whose weights are so large that it costs as much spreads by a fifth of the mean and more.
    """
    mean, bits = float(losses.mean(dtype=np.float64)), math.log2(max(vocabulary, 2))
    if not abs(mean / bits - 1) < 0.05 or losses.std(dtype=np.float64) > 0.15 * mean:
        return None
    return (
        f"their mean is {mean:.4g} with little spread, and a guess among all {vocabulary:,} entries of the vocabulary "
        f"costs {bits:.3g} bits, or {bits * math.log(2):.3g} nats"
    )


def hardly_nats(losses: np.ndarray, vocabulary: int) -> str | None:
    """Return how a slice's losses are too large to be nats for a tokenizer of this size, or None; NaN is no loss."""
    present = losses[~np.isnan(losses)]
    if not present.size:
        return None
    mean, highest = float(present.mean(dtype=np.float64)), float(present.max())
    most = largest(vocabulary)
    if mean <= most[0] and highest <= most[1]:
        return None
    return (
        f"their mean is {mean:.4g} and the highest {highest:.4g}, where a guess among all {vocabulary:,} entries of "
        f"the vocabulary costs {math.log(max(vocabulary, 2)):.3g} nats (hardly nats: a mean above {most[0]:.3g}, or "
        f"a loss above {most[1]:.3g})"
    )
