"""A stream of a scenario while it is played: when its jobs arise, and which frames are skipped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from random import Random

from edgemesh.simulation.clock import VirtualClock

PACE_JITTER = 0.2
"""Of the time between two jobs: a camera is no metronome."""
_LATE = 0.5
"""Of the time to the next frame: one that is later than this is skipped."""


def jittered(start: float, interval: float, random: Random) -> Iterator[float]:
    """When a camera that begins at ``start`` has its frames, without end."""
    yield start
    for number in count(1):
        yield start + (number + random.random() * PACE_JITTER) * interval


class PlayedStream:
    """Calls ``submit`` with the number of each job that arises, at ``times`` before ``stop``.

    Where it ``skips``, a frame that comes while the job before is under way waits for its end, and is skipped
    if that comes too late: a camera has no use for old frames.
    """

    def __init__(
        self,
        clock: VirtualClock,
        times: Iterator[float],
        stop: float,
        skips: bool,
        submit: Callable[[int], bool],
    ) -> None:
        """``submit`` says whether a job was submitted; ``ended`` is to be called at its end then.

        ``times`` must grow, and pass ``stop``.
        """
        self._clock = clock
        self._times = times
        self._stop = stop
        self._skips = skips
        self._submit = submit
        self._count = 0
        self._busy = False
        self._waiting: deque[tuple[int, float]] = deque()
        """Number of each frame that waits, and until when it is worth a job."""
        first = next(times)
        clock.call_at(first, self._arise, first)

    def ended(self) -> None:
        """The job under way has ended."""
        self._busy = False
        while self._waiting and not self._busy:
            number, until = self._waiting.popleft()
            if self._clock.now <= until:
                self._busy = self._submit(number)

    def origin_left(self) -> None:
        """Whoever would tell of the end of the job under way is gone."""
        self._busy = False
        self._waiting.clear()

    def _arise(self, at: float) -> None:
        self._count += 1
        following = next(self._times)
        if following < self._stop:
            self._clock.call_at(following, self._arise, following)
        if self._skips and self._busy:
            self._waiting.append((self._count, at + _LATE * (following - at)))
        else:
            self._busy = self._submit(self._count)
