"""How long a job is likely to wait on a device before it runs.

Jobs tell how long they have waited. A device that no job comes from tells how much work waits there, which
says less: a stream whose jobs come one after the other never meets its own job, but the device, asked in
between, has it under way.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

from edgemesh.planning.newest import Newest
from edgemesh.planning.robust import clamped

HEARTBEATS: Final = 3
"""So many in a row must show that work waits."""
JOBS: Final = 5
"""Whose median wait counts."""
_FRESH_SECONDS: Final = 15.0
"""For so long jobs say more than heartbeats."""
_FLOOR: Final = 0.02
"""Seconds of waiting that are noise."""
_LONGEST: Final = 60.0
_DEVICES: Final = 8192


class QueueEstimates:
    """Of all devices."""

    def __init__(self) -> None:
        self._heard: Newest[str, deque[float]] = Newest(_DEVICES, lambda: deque(maxlen=HEARTBEATS))
        self._waited: Newest[str, deque[tuple[float, float]]] = Newest(_DEVICES, lambda: deque(maxlen=JOBS))
        """Time and seconds of the last jobs."""

    def heard(self, device: str, seconds: float) -> None:
        """A heartbeat says that so much work waits on ``device``."""
        self._heard.fed(device).append(clamped(seconds, 0.0, _LONGEST))

    def knows(self, device: str) -> bool:
        """Whether it has had a heartbeat."""
        return device in self._heard

    def waited(self, device: str, seconds: float, now: float) -> None:
        """A job that ended has waited so long there."""
        self._waited.fed(device).append((now, clamped(seconds, 0.0, _LONGEST)))

    def seconds(self, device: str, now: float) -> float:
        """The estimate as of ``now``."""
        waits = [wait for at, wait in self._waited.get(device, ()) if now - at <= _FRESH_SECONDS]
        heard = self._heard.get(device, ())
        if len(waits) >= HEARTBEATS:
            found = median(waits)
        else:
            found = min(heard) if len(heard) == HEARTBEATS else 0.0
        return found if found >= _FLOOR else 0.0
