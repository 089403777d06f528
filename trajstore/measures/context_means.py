"""Values of contexts as measures: a row for each context, and one of their mean with its standard error.

Where a context has no value (NaN) it has no row, and the mean is of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trajstore.store.files.measures import Measure


def context_measures(
    name: str,
    values: npt.ArrayLike,
    *,
    layer: int | None = None,
    head: int | None = None,
    params: Mapping[str, object] | None = None,
) -> list[Measure]:
    """The measures of one value a context, (contexts,); none where no context has a value."""
    context_values = np.asarray(values, np.float64)
    common: dict[str, Any] = {"layer": layer, "head": head, "params": params or {}}
    numbers = np.flatnonzero(~np.isnan(context_values))
    if not len(numbers):
        return []
    mean, stderr = mean_and_stderr(context_values[numbers])
    rows = [Measure(name, float(context_values[number]), context=int(number), **common) for number in numbers]
    return [*rows, Measure(name, mean, stderr=stderr, **common)]


def mean_and_stderr(values: npt.NDArray[np.float64]) -> tuple[float, float | None]:
    """The mean of independent values with its standard error, which one value does not have."""
    number = len(values)
    return float(values.mean()), float(values.std(ddof=1) / number**0.5) if number > 1 else None
