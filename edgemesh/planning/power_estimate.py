"""Idle and busy watts of one device, learned from metered samples of load and watts.

The model is a line, ``watts = idle * (1 - load) + busy * load``: by processor and network utilisation alone a
Raspberry Pi was predicted within 3.3 % RMSE (PowerPi, LCN 2014). The board's own figures are the prior of
a Bayesian linear regression, so a device that was only ever seen idle keeps its board's busy watts.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final, NamedTuple

BINS: Final = 10
"""Of the load. Samples of one bin are one observation: an idle night must not outvote a busy minute."""
BIN_SAMPLES: Final = 40
SAMPLE_AGE: Final = 6 * 3600.0
"""Seconds; another power supply or a new disk is forgotten after that."""
PRIOR_ERROR: Final = 0.4
"""Of a board's figures: two meters differ by up to 1.7 times on one kind of board."""
LINE_ERROR: Final = 0.05
"""How far off the line a bin may be for good: clocks and voltages go in steps."""
SMALLEST_SPAN: Final = 0.3
"""Of the load between the lowest and the highest bin; less does not tell a slope from noise."""
LEARNED_ERROR: Final = 0.25
"""Of busy less idle, at most."""
_TRIMMED: Final = 0.15
"""Of a bin's samples, at each end: outliers."""
_FEWEST: Final = 3
"""Samples of a bin that counts."""
LARGEST_WATTS: Final = 10_000.0


@dataclass(frozen=True)
class PowerEstimate:
    """The two ends of the line, with how well they are known."""

    idle_watts: float
    busy_watts: float
    error: float
    """Likely relative error of busy less idle."""
    learned: bool
    """Whether the samples tell both ends; otherwise the board's figures are the better guess."""


class _Bin(NamedTuple):
    load: float
    watts: float
    deviation: float
    """Of ``watts``, as a standard deviation."""


class PowerEstimator:
    """One device and one meter; feed it samples, ask it at any time."""

    def __init__(self, idle_watts: float | None = None, busy_watts: float | None = None) -> None:
        """Prior from the board's profile, where one is known."""
        self._prior: tuple[float, float] | None = None
        if idle_watts is not None and busy_watts is not None and 0.0 < idle_watts <= busy_watts:
            self._prior = idle_watts, busy_watts
        self._bins: list[deque[tuple[float, float, float]]] = [deque(maxlen=BIN_SAMPLES) for _ in range(BINS)]

    def observe(self, load: float, watts: float, now: float) -> None:
        """Take the mean ``watts`` of some seconds with the mean ``load`` (0 to 1); nonsense is ignored."""
        if 0.0 <= load <= 1.0 and math.isfinite(watts) and 0.0 < watts <= LARGEST_WATTS:
            self._bins[min(int(load * BINS), BINS - 1)].append((now, load, watts))

    def estimate(self, now: float) -> PowerEstimate | None:
        """Figures as of ``now``; None with neither a prior nor a sample."""
        bins = [found for samples in self._bins if (found := _bin(samples, now)) is not None]
        prior = self._prior or _flat_prior(bins)
        if prior is None:
            return None
        width = PRIOR_ERROR if self._prior else 10.0
        idle, busy, variance = _posterior(bins, prior, width)
        idle = max(idle, 0.0)
        above = max(busy - idle, 0.0)
        error = math.sqrt(variance) / above if above > 0.0 else math.inf
        loads = [b.load for b in bins]
        spread = max(loads, default=0.0) - min(loads, default=0.0)
        learned = spread >= SMALLEST_SPAN and error <= LEARNED_ERROR
        return PowerEstimate(min(idle, LARGEST_WATTS), min(idle + above, LARGEST_WATTS), error, learned)


def _bin(samples: deque[tuple[float, float, float]], now: float) -> _Bin | None:
    fresh = sorted((watts, load) for at, load, watts in samples if now - at <= SAMPLE_AGE)
    if len(fresh) < _FEWEST:
        return None
    cut = max(int(len(fresh) * _TRIMMED), 1)  # of three samples the median is left
    core = fresh[cut:-cut]
    centre = fmean(watts for watts, _ in core)
    middle = median(watts for watts, _ in fresh)
    spread = 1.4826 * median(abs(watts - middle) for watts, _ in fresh)
    deviation = math.hypot(spread / math.sqrt(len(core)), LINE_ERROR * centre)
    return _Bin(fmean(load for _, load in core), centre, deviation)


def _flat_prior(bins: list[_Bin]) -> tuple[float, float] | None:
    if not bins:
        return None
    mean = fmean(b.watts for b in bins)
    return mean, mean


def _posterior(bins: list[_Bin], prior: tuple[float, float], width: float) -> tuple[float, float, float]:
    """Idle, busy and the variance of busy less idle; normal equations of two unknowns, solved by hand."""
    weights = [1.0 / max(width * figure, 1e-3) ** 2 for figure in prior]
    a, b, d = weights[0], 0.0, weights[1]
    p, q = weights[0] * prior[0], weights[1] * prior[1]
    for load, watts, deviation in bins:
        weight = 1.0 / max(deviation, 1e-3) ** 2
        a += weight * (1.0 - load) ** 2
        b += weight * (1.0 - load) * load
        d += weight * load**2
        p += weight * (1.0 - load) * watts
        q += weight * load * watts
    determinant = a * d - b * b
    idle, busy = (d * p - b * q) / determinant, (a * q - b * p) / determinant
    return idle, busy, (a + d + 2.0 * b) / determinant
