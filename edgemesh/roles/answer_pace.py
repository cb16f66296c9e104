"""Answer pace: how long a job of this requester would wait behind those that it has under way already."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

_GAPS = 16
_LEAST_GAPS = 4
_DEVICES = 4096


class AnswerPace:
    """Seconds between two answers over a device while more are under way over it.

    A device answers ``busy`` by what waits in its own queue. What waits on the way to it, at a slow link or
    in the broker, only the requester can see, and only by how fast answers come home.
    """

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._gaps: dict[str, deque[float]] = {}
        self._mean: dict[str, float] = {}

    def __bool__(self) -> bool:
        """Whether anything is known: never, while jobs come one at a time."""
        return bool(self._mean)

    def answered(self, devices: Iterable[str], under_way: Callable[[str], int], now: float) -> None:
        """A result came over ``devices``; ``under_way`` tells how many more jobs are over one of them."""
        for device in devices:
            last = self._last.pop(device, None)
            if last is not None:
                self._learn(device, now - last)
            if under_way(device) and len(self._last) < _DEVICES:
                self._last[device] = now

    def seconds(self, devices: Iterable[str], under_way: Callable[[str], int]) -> float:
        """Until a job over ``devices`` that is sent now is answered; 0 where that is not known.

        What was slow may be fast again, and only a job can show it: over a device with none it is 0, too.
        """
        ahead = [(self._mean.get(device, 0.0), under_way(device)) for device in devices]
        return max((mean * (jobs + 1) for mean, jobs in ahead if jobs), default=0.0)

    def _learn(self, device: str, gap: float) -> None:
        if len(self._gaps) >= _DEVICES:
            self._gaps.clear()
            self._mean.clear()
        gaps = self._gaps.setdefault(device, deque(maxlen=_GAPS))
        gaps.append(gap)
        if len(gaps) >= _LEAST_GAPS:
            # Without the longest: one pause says nothing of the jobs after it.
            self._mean[device] = (sum(gaps) - max(gaps)) / (len(gaps) - 1)
