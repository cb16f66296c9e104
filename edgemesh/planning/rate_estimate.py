"""How often something happens: events per second, with an exponential memory."""

from __future__ import annotations

import math
from typing import Final

MEMORY_SECONDS: Final = 15.0
MOST_PER_SECOND: Final = 1000.0
"""Far above what a mesh of small devices does: whoever tells of more is wrong, or lies."""


class EventRate:
    """Feed it events, ask it at any time; times never go back."""

    def __init__(self, began: float) -> None:
        """Nothing is known of before ``began``."""
        self._began = began
        self._at = began
        self._weight = 0.0

    def add(self, count: float, now: float) -> None:
        """``count`` events happened since the last call; no more are believed than may have in that time."""
        count = min(count, MOST_PER_SECOND * max(1.0, now - self._at))
        self._fade(now)
        self._weight = min(self._weight + count, MOST_PER_SECOND * MEMORY_SECONDS)

    def per_second(self, now: float) -> float:
        """Events per second as of ``now``; in the first seconds as if it had gone on like that before."""
        self._fade(now)
        seen = MEMORY_SECONDS * -math.expm1(-max(now - self._began, 1.0) / MEMORY_SECONDS)
        return min(self._weight / seen, MOST_PER_SECOND)

    def _fade(self, now: float) -> None:
        self._weight *= math.exp(-max(0.0, now - self._at) / MEMORY_SECONDS)
        self._at = max(self._at, now)
