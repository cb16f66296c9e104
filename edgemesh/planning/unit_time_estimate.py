"""What the units of one model take on one device: its profile, corrected by the jobs it has run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final, NamedTuple

import numpy as np

from edgemesh.planning.instance import FloatArray
from edgemesh.planning.robust import Recent, clamped, is_positive, log_median, relative_error

PROFILE_ERROR: Final = 0.3
"""Uncertainty of a profile before any job confirms it."""
FACTOR_RANGE: Final = (0.05, 20.0)
"""Of the sum of units to a whole run: fusion and cache stay far within it."""
CORRECTION_RANGE: Final = (0.02, 50.0)
"""Of the profile to now: throttling, another process, other clocks."""


class MeasuredRun(NamedTuple):
    """Units ``[start, stop)`` in one go took ``seconds``."""

    start: int
    stop: int
    seconds: float


@dataclass(frozen=True)
class UnitTimes:
    """Fields of a ``PlanningDevice``, with how well they are known."""

    seconds: FloatArray
    """``[U]``, infinite where the device cannot run the unit."""
    run_overhead: float
    run_factor: float
    uncertainty: float
    """Likely relative error, on a log scale: 0.1 is about 10 %."""
    age: float
    """Seconds since the newest job; infinite when there was none."""


class UnitTimeEstimator:
    """One device and model. A run takes ``correction * (overhead + factor * sum of its units)``.

    Overhead and factor come from the profile's measured runs (prefixes, suffixes, the whole), the correction
    from jobs: the median of what recent runs took to what the profile says.
    """

    def __init__(self, seconds: Sequence[float] | FloatArray, runs: Sequence[MeasuredRun] = ()) -> None:
        """``seconds`` per unit (infinite, NaN or negative: cannot run it), and measured ``runs``."""
        units = np.array(seconds, dtype=np.float64)
        units[~(np.isfinite(units) & (units >= 0.0))] = math.inf
        self._seconds = units
        self._ratios: Recent[float] = Recent()
        self._overhead, self._factor = _overhead_and_factor(
            [(self._sum(run), run.seconds) for run in runs if self._usable(run)]
        )

    def observe(self, run: MeasuredRun, now: float) -> None:
        """Take the timing of a run that a job brought home; nonsense is ignored."""
        if self._usable(run):
            predicted = self._overhead + self._factor * self._sum(run)
            self._ratios.add(clamped(run.seconds / predicted, *CORRECTION_RANGE), now)

    def estimate(self, now: float) -> UnitTimes:
        """Times as of ``now``."""
        ratios = self._ratios.values(now)
        correction = log_median(ratios) if ratios else 1.0
        return UnitTimes(
            self._seconds,
            self._overhead * correction,
            self._factor * correction,
            relative_error(ratios, PROFILE_ERROR),
            self._ratios.age(now),
        )

    def _usable(self, run: MeasuredRun) -> bool:
        return (
            0 <= run.start < run.stop <= len(self._seconds)
            and is_positive(run.seconds)
            and is_positive(self._sum(run))
        )

    def _sum(self, run: MeasuredRun) -> float:
        return float(self._seconds[run.start : run.stop].sum())


def _overhead_and_factor(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Line through (sum of units, seconds) by the median of slopes (Theil-Sen); no overhead below zero."""
    if not points:
        return 0.0, 1.0
    spans = [(x1, y1, x2, y2) for (x1, y1), (x2, y2) in combinations(sorted(points), 2) if x2 > 1.05 * x1]
    if spans:
        factor = clamped(median((y2 - y1) / (x2 - x1) for x1, y1, x2, y2 in spans), *FACTOR_RANGE)
        overhead = median(y - factor * x for x, y in points)
        if overhead >= 0.0:
            return overhead, factor
    return 0.0, clamped(log_median(y / x for x, y in points), *FACTOR_RANGE)
