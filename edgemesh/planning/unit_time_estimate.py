"""What the units of one model take on one device: its profile, corrected by the runs it has done since."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from statistics import median
from typing import Final, NamedTuple

import numpy as np

from edgemesh.planning.instance import FloatArray
from edgemesh.planning.level import FRESH_AGE, Level
from edgemesh.planning.robust import clamped, is_positive, log_median
from edgemesh.planning.slowdown_estimate import EXPECTED_STEP, is_step

PROFILE_ERROR: Final = 0.15
"""Uncertainty of a profile before any run confirms it. The device measured it itself, alone and warm, so what
is left is what other work on it costs; more than this kept jobs on a loaded device beside an idle one."""
FACTOR_RANGE: Final = (0.05, 20.0)
"""Of the sum of units to a whole run: fusion and cache stay far within it."""
CORRECTION_RANGE: Final = (0.02, 50.0)
"""Of the profile to now: throttling, another process, other clocks."""
HEALING_SECONDS: Final = 600.0
"""A correction that no run confirms fades by 1/e in this time: most that slows a device down ends. Devices
measure themselves now and then, so this is for those that cannot."""
_SHORTEST: Final = 1e-9
"""Seconds, and a tick of the planner. No clock measures less, and ratios of less than that overflow."""
TOLD_SECONDS: Final = 15.0
"""Within which a device tells of load and throttling that its runs have shown: two readings of five seconds
each, and some."""
_OWN_FACTOR_RANGE: Final = (0.8, 1.25)
"""Of a measured run to what the line through all of them says: beyond it is an outlier."""
_ALONE_RANGE: Final = (0.1, 10.0)
"""The same of a unit alone. The line is that of long runs: its error is small for them, and may be as much as
a short unit takes."""
_OWN_FACTOR_NOISE: Final = 0.05
"""Nearer to the line a run is on it."""


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
    """Seconds since the newest run; infinite when there was none."""
    runs: FloatArray | None = None
    """``[U + 1, U + 1]`` seconds of the run ``[start, stop)``, where some are not what overhead and factor
    say; infinite where the device cannot run it."""
    correction: float = 1.0
    """Of the profile's times to these."""


class UnitTimeEstimator:
    """One device and model. A run takes ``correction * own factor * (overhead + factor * sum of its units)``.

    Overhead and factor come from the profile's measured runs (prefixes, suffixes, the whole), as do the own
    factors, which are 1 for runs that it does not list. The correction is what recent runs took to what the
    profile says.
    """

    def __init__(self, seconds: Sequence[float] | FloatArray, runs: Sequence[MeasuredRun] = ()) -> None:
        """``seconds`` per unit (infinite, NaN or negative: cannot run it), and measured ``runs``."""
        units = np.array(seconds, dtype=np.float64)
        units[~(np.isfinite(units) & (units >= 0.0))] = math.inf
        units = np.maximum(units, _SHORTEST)
        self._seconds = units
        finite = np.isfinite(units)
        self._before: list[float] = np.concatenate(([0.0], np.cumsum(np.where(finite, units, 0.0)))).tolist()
        self._unable: list[int] = np.concatenate(([0], np.cumsum(~finite))).tolist()
        self._level = Level()
        self._slowdown = 1.0
        """What was expected last."""
        self._unhindered: float | None = None
        """The correction before the slowdown that is expected now began; None while none is."""
        usable = [run for run in runs if self._usable(run)]
        self._overhead, self._factor = _overhead_and_factor([(self._sum(run), run.seconds) for run in usable])
        alone = [MeasuredRun(u, u + 1, float(s)) for u, s in enumerate(units)]
        self._own: dict[tuple[int, int], float] = {}
        for run in (*alone, *usable):
            within = _ALONE_RANGE if run.stop - run.start == 1 else _OWN_FACTOR_RANGE
            factor = clamped(run.seconds / self._line(run), *within) if self._usable(run) else 1.0
            if abs(factor - 1.0) > _OWN_FACTOR_NOISE:
                self._own[run.start, run.stop] = factor

    @property
    def steps(self) -> int:
        """Steps recognised so far: each time, what older runs said was forgotten."""
        return self._level.steps

    def observe(self, run: MeasuredRun, now: float, slowdown: float = 1.0) -> None:
        """Take the timing of a run; nonsense is ignored.

        ``slowdown`` is what was expected at that moment anyway, from the load of others for example.
        """
        self._expect(slowdown, now)
        if self._usable(run):
            ratio = run.seconds / (self._predicted(run) * slowdown)
            if not self._level:
                self._level.add(1.0, now)  # the profile: measured too, so one run alone does not overthrow it
            self._level.add(clamped(ratio, *CORRECTION_RANGE), now)

    def estimate(self, now: float, slowdown: float = 1.0, disbelief: float = 1.0) -> UnitTimes:
        """Times as of ``now``, where ``slowdown`` is what is expected at present.

        ``disbelief`` is how many times longer runs take than the device says.
        """
        self._expect(slowdown, now)
        correction, error, age = 1.0, PROFILE_ERROR, math.inf
        if self._level:
            level, error, age = self._level.read(now, PROFILE_ERROR)
            correction = level ** math.exp(-max(0.0, age - FRESH_AGE) / HEALING_SECONDS)
        correction = clamped(correction * slowdown * disbelief, *CORRECTION_RANGE)
        return UnitTimes(
            self._seconds,
            self._overhead * correction,
            self._factor * correction,
            error,
            age,
            self._runs * correction if self._runs is not None else None,
            correction,
        )

    def _expect(self, slowdown: float, now: float) -> None:
        """Take note of a slowdown that is expected from now on.

        Runs may have shown it before the device told of its cause: then it is in the level already. When the
        cause is over, what runs have shown under it is, too.
        """
        before, self._slowdown = self._slowdown, slowdown
        if slowdown == before or not self._level:
            return
        level = self._level
        shown = now - level.stepped_at <= TOLD_SECONDS and level.rose == (slowdown > before)
        if slowdown < EXPECTED_STEP <= before and self._unhindered is not None:
            level.back_to(self._unhindered)
            self._unhindered = None
            return
        if before < EXPECTED_STEP <= slowdown:
            self._unhindered = level.before_step if shown else level.value
        if shown:
            level.scale(before / slowdown)
        elif is_step(before, slowdown):
            level.changed(slowdown / before)

    @cached_property
    def _runs(self) -> FloatArray | None:
        """All runs as the profile has them; None where all are on the line."""
        if not self._own:
            return None
        sums, unable = np.array(self._before), np.array(self._unable)
        runs: FloatArray = self._overhead + self._factor * (sums[None, :] - sums[:, None])
        runs[unable[None, :] > unable[:, None]] = math.inf
        runs[np.tril_indices(len(sums))] = math.inf
        for (start, stop), factor in self._own.items():
            runs[start, stop] *= factor
        return runs

    def _usable(self, run: MeasuredRun) -> bool:
        return (
            0 <= run.start < run.stop <= len(self._seconds)
            and is_positive(run.seconds, self._sum(run))
            and run.seconds >= _SHORTEST
        )

    def _predicted(self, run: MeasuredRun) -> float:
        return self._line(run) * self._own.get((run.start, run.stop), 1.0)

    def _line(self, run: MeasuredRun) -> float:
        return self._overhead + self._factor * self._sum(run)

    def _sum(self, run: MeasuredRun) -> float:
        if self._unable[run.stop] > self._unable[run.start]:
            return math.inf
        return self._before[run.stop] - self._before[run.start]


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
