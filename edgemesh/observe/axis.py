"""One axis of a plot: values to a share of its length, and round values to write beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_LOGARITHMIC_FROM: Final = 12.0
"""Beyond this ratio of the largest to the smallest value, small ones would lie on each other."""
_LEAST_SHARE: Final = 1e-9
"""Of the largest value: what is below lies on the edge of a logarithmic axis."""
_NOTHING: Final = 1e-200
"""No figure that anybody measures: steps between such values would vanish in rounding."""
_MARGIN: Final = 0.05
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """From ``low`` to ``high``, which differ; both above 0 where it is ``logarithmic``."""

    low: float
    high: float
    logarithmic: bool

    def share(self, value: float) -> float:
        """Place of ``value``, 0 to 1; what lies beyond is held to the ends."""
        if self.logarithmic:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(max(share, 0.0), 1.0)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within, ascending, about ``most``."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1.0, 2.0, 5.0) if last - first <= most // 2 else (1.0,)
            found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        else:
            step = _round_step((self.high - self.low) / most)
            first = math.ceil(self.low / step - 1e-9)
            found = [step * index for index in range(first, math.floor(self.high / step + 1e-9) + 1)]
        slack = (self.high - self.low) * 1e-9
        within = [value for value in found if self.low - slack <= value <= self.high + slack]
        return within[:: max(math.ceil(len(within) / (most + 1)), 1)]


def axis_around(values: Iterable[float], *, from_zero: bool = False) -> Axis:
    """An axis that holds all finite ``values`` with a margin; logarithmic where they differ very much."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if max(abs(low), abs(high)) < _NOTHING:
        return Axis(0.0, 1.0, False)
    if not from_zero and low > 0.0 and high > _LOGARITHMIC_FROM * low:
        low = max(low, high * _LEAST_SHARE)
        margin = (high / low) ** _MARGIN
        return Axis(low / margin, high * margin, True)
    if from_zero:
        return Axis(min(low, 0.0), max(high * (1.0 + _MARGIN), low + 1e-12, 1e-12), False)
    margin = (high - low) * _MARGIN or abs(high) * _MARGIN or 1.0
    return Axis(low - margin if low - margin > 0.0 or low <= 0.0 else 0.0, high + margin, False)


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * step for step in _STEPS if power * step >= least * 0.999999)
