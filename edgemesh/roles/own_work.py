"""Own work: in what share of the time this device's executor was at work for the mesh.

A reading of the processor covers everything that runs on the machine. What others take can only be told when
our own share of the very same stretch of time is known: that of another stretch turns our runs into load of
others, or hides it.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgemesh.roles.actions import Action, LoadUnits, MeasureUnits, RunUnits
from edgemesh.roles.events import (
    Event,
    ExecutorLost,
    RangeLoaded,
    RangeRefused,
    RunFailed,
    RunFinished,
    RunMeasured,
)

_ENDS = (RunFinished, RunFailed, RangeLoaded, RangeRefused, RunMeasured)


class OwnWork:
    """Tell it what is asked of the executor and what it answers."""

    def __init__(self) -> None:
        self._open = 0
        """Runs, loads and measurements without an answer; while there is one the executor is at work."""
        self._since = 0.0
        """When work began, or was last counted."""
        self._seconds = 0.0
        self._taken_at: float | None = None

    def asked(self, actions: Iterable[Action], now: float) -> None:
        """These go to the shell."""
        for action in actions:
            if isinstance(action, (RunUnits, LoadUnits, MeasureUnits)):
                if self._open == 0:
                    self._since = now
                self._open += 1

    def answered(self, event: Event, now: float) -> None:
        """The executor may have ended something."""
        if self._open == 0:
            return
        if isinstance(event, ExecutorLost):
            self._open = 1
        elif not isinstance(event, _ENDS):
            return
        self._open -= 1
        if self._open == 0:
            self._seconds += now - self._since

    def take_share(self, now: float) -> float | None:
        """Share of the time since it was last asked for, 0 to 1; None the first time."""
        if self._open:
            self._seconds += now - self._since
            self._since = now
        before, seconds = self._taken_at, self._seconds
        self._taken_at, self._seconds = now, 0.0
        if before is None or now <= before:
            return None
        return min(1.0, seconds / (now - before))
