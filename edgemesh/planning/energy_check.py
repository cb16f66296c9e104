"""Energy that a smart plug measured over minutes, against what the device's power model says.

A plug is no meter of a job: its pulses come at 1 Hz at 12 W (HLW8012), its reports on a change or every few
minutes, and its counter goes in steps of 0.001 to 0.01 kWh. Ten minutes tell whether the model is off.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Final

WINDOW: Final = 600.0
"""Seconds between two reports that are compared."""
WINDOWS: Final = 5
"""That count."""
FEWEST: Final = 3
"""Windows before anything is said."""
STEADY: Final = 0.15
"""How far windows may differ from their median when the model is to be corrected by it."""
RATIO_RANGE: Final = (0.1, 10.0)
"""Beyond it the plug measures something else."""
_STEPS: Final = 20
"""Steps of the counter in a window that is taken from it: its rounding is 5 % then."""
_LONGEST_GAP: Final = 60.0
"""Seconds between two looks; a machine that slept in between used energy that the model does not know of."""


@dataclass(frozen=True)
class _Mark:
    at: float
    modelled: float
    counter: float | None


class EnergyCheck:
    """One plug and one model. ``passed`` at every look at the device, ``reported`` at every report."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=WINDOWS)
        self._modelled = 0.0
        self._held: float | None = 0.0
        """Joules when each reported power is taken to last until the next; None since a gap."""
        self._start: _Mark | None = None
        self._counter: float | None = None
        self._step: float | None = None
        """Smallest advance of the counter that was seen: its resolution."""

    def passed(self, modelled_watts: float, held_watts: float | None, seconds: float) -> None:
        """``seconds`` passed; ``held_watts`` is the plug's last report while it counts."""
        if seconds > _LONGEST_GAP:
            self._start = None
            return
        self._modelled += modelled_watts * seconds
        if held_watts is None:
            self._held = None
        elif self._held is not None:
            self._held += held_watts * seconds

    def reported(self, counter: float | None, now: float) -> None:
        """The plug reported; ``counter`` are its joules, if it counts them. One that steps back was reset."""
        before, start = self._counter, self._start
        if counter is not None and before is not None and counter > before:
            step = counter - before
            self._step = step if self._step is None else min(self._step, step)
        reset = counter is not None and before is not None and counter < before
        self._counter = counter if counter is not None else before
        if start is None or reset:
            self._begin(now)
        elif now - start.at >= WINDOW and (measured := self._measured(start)) is not None:
            modelled = self._modelled - start.modelled
            if modelled > 0.0 and RATIO_RANGE[0] <= measured / modelled <= RATIO_RANGE[1]:
                self._ratios.append(measured / modelled)
            self._begin(now)
        elif self._held is None and start.counter is None:
            self._begin(now)

    @property
    def ratio(self) -> float | None:
        """Median of measured over modelled; None before enough minutes were compared."""
        return median(self._ratios) if len(self._ratios) >= FEWEST else None

    @property
    def steady(self) -> bool:
        """Whether the windows agree, so that the model may be scaled by the ratio."""
        ratio = self.ratio
        return ratio is not None and all(abs(r / ratio - 1.0) <= STEADY for r in self._ratios)

    def _begin(self, now: float) -> None:
        self._held = 0.0
        self._start = _Mark(now, self._modelled, self._counter)

    def _measured(self, start: _Mark) -> float | None:
        """Joules since ``start``: by the counter where it is fine enough, else by the reported power."""
        if self._counter is not None and start.counter is not None and self._step is not None:
            advance = self._counter - start.counter
            if advance >= _STEPS * self._step:
                return advance
        return self._held
