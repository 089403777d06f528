"""Types of the arrays that analyses take and return."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
"""Numbers in float32 or float64."""
Whole = npt.NDArray[np.integer]
"""Whole numbers: steps, places in other arrays, counts."""
Flags = npt.NDArray[np.bool_]
