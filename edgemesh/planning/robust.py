"""Medians and spreads on a logarithmic scale.

Times and rates are positive and err by factors: a median of logarithms treats "twice" and "half" alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median
from typing import Final

MAD_TO_SIGMA: Final = 1.4826
"""Median absolute deviation to standard deviation, for normal noise."""


def log_median(values: Iterable[float]) -> float:
    """Median of positive ``values``; the geometric mean of the middle two for an even number."""
    return math.exp(median(math.log(value) for value in values))


def clamped(value: float, low: float, high: float) -> float:
    """``value`` within ``[low, high]``."""
    return min(max(value, low), high)


def is_positive(*values: float) -> bool:
    """Whether all are finite and above zero: everything else is no measurement."""
    return all(math.isfinite(value) and value > 0.0 for value in values)
