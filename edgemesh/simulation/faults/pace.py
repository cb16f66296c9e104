"""Pace: lets time pass, unless so much happens that it hardly does."""

from __future__ import annotations

from collections.abc import Callable

from edgemesh.simulation.clock import VirtualClock
from edgemesh.simulation.faults.broken import RuleBrokenError

_STORM = 20_000
"""Events in one virtual second: two nodes that answer each other for ever. A burst of 60 jobs makes 2,000."""


class Pace:
    """Raises RuleBrokenError when a virtual second does not end."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._began = clock.now
        self._second = clock.now
        self._happened = 0

    def run(self, seconds: float, condition: Callable[[], bool] | None = None) -> bool:
        """Let so many seconds pass, or fewer if ``condition`` holds before; whether it does."""
        return self._clock.run_until(self._clock.now + seconds, self._look_and(condition))

    def _look_and(self, condition: Callable[[], bool] | None) -> Callable[[], bool]:
        return self._look if condition is None else lambda: self._look() or condition()

    def _look(self) -> bool:
        clock = self._clock
        if clock.now >= self._second + 1.0:
            self._second, self._happened = clock.now, clock.happened
        elif clock.happened - self._happened > _STORM:
            text = f"more than {_STORM} events in a second"
            raise RuleBrokenError(clock.now - self._began, "no storm", text)
        return False
