"""Medians and spreads of recent samples on a logarithmic scale.

Times and rates are positive and err by factors: a median of logarithms treats "twice" and "half" alike.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Generic, TypeVar

T = TypeVar("T")

WINDOW: Final = 7
"""Samples of one kind that count. A step is followed after four of them; three outliers change nothing."""
SAMPLE_AGE: Final = 300.0
"""Seconds after which a sample counts only if there is no younger one."""


@dataclass
class Recent(Generic[T]):
    """The newest ``WINDOW`` samples with the time of each; times never go back."""

    _samples: deque[tuple[float, T]] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def add(self, sample: T, now: float) -> None:
        """Remember ``sample``."""
        self._samples.append((now, sample))

    def values(self, now: float) -> list[T]:
        """Samples younger than ``SAMPLE_AGE``, or when all are older the last one alone.

        A device that has not been measured for a while is better known by its last sample than by a guess:
        going back to a default would draw work to a device that was found slow.
        """
        fresh = [sample for time, sample in self._samples if now - time <= SAMPLE_AGE]
        return fresh or [sample for _, sample in list(self._samples)[-1:]]

    def age(self, now: float) -> float:
        """Seconds since the newest sample; infinite when there is none."""
        return now - self._samples[-1][0] if self._samples else math.inf


def log_median(values: Iterable[float]) -> float:
    """Median of positive ``values``; the geometric mean of the middle two for an even number."""
    return math.exp(median(math.log(value) for value in values))


def log_spread(values: Sequence[float]) -> float:
    """Standard deviation of ``log(values)``, from the median of deviations (1.4826 makes them comparable)."""
    logs = [math.log(value) for value in values]
    centre = median(logs)
    return 1.4826 * median(abs(log - centre) for log in logs)


def relative_error(values: Sequence[float], prior: float) -> float:
    """Likely error of ``log_median(values)`` on the log scale: 0.1 is about 10 %; ``prior`` without values.

    The spread of few samples says little, so the prior still counts with its share of one sample.
    """
    if not values:
        return prior
    count = len(values)
    return min(prior, math.hypot(log_spread(values), prior / count) / math.sqrt(count))


def clamped(value: float, low: float, high: float) -> float:
    """``value`` within ``[low, high]``."""
    return min(max(value, low), high)


def is_positive(*values: float) -> bool:
    """Whether all are finite and above zero: everything else is no measurement."""
    return all(math.isfinite(value) and value > 0.0 for value in values)
