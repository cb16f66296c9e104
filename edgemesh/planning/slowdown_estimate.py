"""How much slower a device is expected to run because of its condition, before a run has shown it.

Only a first guess: a run under the new condition corrects it, and when the condition ends so does the guess.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from edgemesh.planning.robust import clamped

LOAD_NOISE: Final = 0.2
"""Share of all cores that others may take before it counts: every machine does something, and readings
jump."""
LOAD_STEP: Final = 0.25
"""Change of what others take that may change the speed, and is told at once."""
EXPECTED_STEP: Final = 1.25
"""Factor between two slowdowns from which on they are two conditions of a device."""
_FAIR_SHARE: Final = 0.5
"""Of the cores that a run gets however much others want, where the scheduler is fair to two that want all."""
THROTTLED: Final = 1.5
"""A Pi 4 at its soft limit runs at 1.4 of 1.8 GHz (1.3 times slower), one short of voltage at 0.6 to 1.0 GHz
(1.8 to 3 times): the low middle."""
_MOSTLY_RUNNING: Final = 0.75
"""Where our own runs fill the time, what others take cannot be told from a busy share: an error of either
share counts four times here."""


def share_of_others(cpu: float, own: float) -> float | None:
    """What others take of all cores where ``cpu`` of them are busy and our runs run for ``own`` of the time.

    While one runs no core is idle: ``cpu = others + own * (1 - others)``. None where they run most of the
    time.
    """
    return clamped((cpu - own) / (1.0 - own), 0.0, 1.0) if own < _MOSTLY_RUNNING else None


class OthersLoad:
    """Share of all cores that other processes of a device take, from readings that each cover some
    seconds."""

    def __init__(self) -> None:
        self._last = (0.0, 0.0)

    def observe(self, cpu: float, own: float) -> None:
        """``cpu`` is the busy share of all cores, ``own`` the share of the same time in which our runs ran.

        Where nothing can be told from them they change nothing.
        """
        others = share_of_others(cpu, own)
        if others is not None:
            self._last = self._last[1], others

    @property
    def share(self) -> float:
        """What both of the last two readings show: one may be a burst, or have caught our own run."""
        return min(self._last)


def is_step(before: float, after: float) -> bool:
    """Whether two expected slowdowns are two conditions of a device, so that plans must know."""
    return not 1.0 / EXPECTED_STEP < after / before < EXPECTED_STEP


def expected_slowdown(others: float, throttled: Collection[str]) -> float:
    """Factor on the time of a run, 1 to 3, for a load ``others`` (0 to 1) and the flags in force."""
    load = clamped((others - LOAD_NOISE) / (1.0 - LOAD_NOISE), 0.0, 1.0)
    return (THROTTLED if throttled else 1.0) / max(1.0 - load, _FAIR_SHARE)
