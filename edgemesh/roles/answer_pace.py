"""Answer pace: how long a job of this requester would wait behind those that it has under way already."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from edgemesh.roles.routes import Lane

_GAPS: Final = 16
_LEAST_GAPS: Final = 4
_LANES: Final = 4096
_OLD_SECONDS, _OLD_GAPS = 10.0, 4.0
"""What no answers in a row have shown for so long, and for so many gaps, is not known any more: it may be
fast again, and only more jobs can show it."""
_UNTRIED_SECONDS: Final = 30.0
"""Without a job sent, silence says nothing any more: that one was lost on its way would refuse all others."""


class _Pace(NamedTuple):
    seconds: float
    """Between two answers."""
    at: float

    def is_old(self, now: float) -> bool:
        """Whether it says nothing any more."""
        return now - self.at > max(_OLD_SECONDS, _OLD_GAPS * self.seconds)


class AnswerPace:
    """Seconds between two answers over a lane while more are under way over it.

    A device answers ``busy`` by what waits in its own queue. What waits on the way to it, at a slow link or
    in the broker, only the requester can see, and only by how fast answers come home.
    """

    def __init__(self) -> None:
        self._last: dict[Lane, float] = {}
        """When the last answer came, of lanes over which more were under way then, and are since."""
        self._silent_since: dict[Lane, float] = {}
        """When a lane was sent a job or answered one last, while it has one to answer."""
        self._sent_at: dict[Lane, float] = {}
        """When the last job was sent over a lane."""
        self._gaps: dict[Lane, deque[float]] = {}
        self._paces: dict[Lane, _Pace] = {}

    def __bool__(self) -> bool:
        """Whether anything can be said: never, while jobs come one at a time."""
        return bool(self._paces or self._silent_since)

    def sent(self, lanes: Iterable[Lane], under_way: Callable[[Lane], int], now: float) -> None:
        """A job is about to be sent over ``lanes``; ``under_way`` tells how many are over one of them."""
        for lane in lanes:
            if lane in self._sent_at or len(self._sent_at) < _LANES:
                self._sent_at[lane] = now
            if not under_way(lane):
                self._last.pop(lane, None)  # between the last answer and now there was nothing to answer
                if len(self._silent_since) < _LANES:
                    self._silent_since[lane] = now

    def interrupted(self) -> None:
        """No answers could come for a while, as the broker was away."""
        self._last.clear()
        self._silent_since.clear()

    def answered(
        self, lanes: Iterable[Lane], under_way: Callable[[Lane], int], now: float, sent: float = float("-inf")
    ) -> None:
        """The result of a job that was ``sent`` over ``lanes`` came.

        ``under_way`` tells how many more jobs are over one of them. That one of them is lost, and the device
        idle between the others, is no pace: a gap begins when its job was sent at the earliest.
        """
        for lane in lanes:
            last = self._last.pop(lane, None)
            if last is not None:
                self._learn(lane, now - max(last, sent), now)
            self._silent_since.pop(lane, None)
            if under_way(lane) and len(self._last) < _LANES:
                self._last[lane] = self._silent_since[lane] = now

    def seconds(
        self, lanes: Iterable[Lane], under_way: Callable[[Lane], int], now: float, heard: float
    ) -> float:
        """Until a job over ``lanes`` that is sent now is answered; 0 where that is not known.

        What was slow may be fast again, and only a job can show it: over a lane with none it is 0, too.
        Where no answer comes there is no pace, but a job takes at least as long as nothing has been heard: or
        nothing would ever be too much for the slowest. The one that it is at has had that time already. Where
        none was sent for a while either, that nothing is heard may mean that it was lost on its way.

        What was answered until ``heard`` has arrived. Later answers may have come to the broker and wait
        there behind what others send us: that silence is not the device's.
        """
        longest = 0.0
        for lane in lanes:
            ahead = under_way(lane)
            if not ahead:
                continue
            pace = self._paces.get(lane)
            known = pace.seconds if pace is not None and not pace.is_old(now) else 0.0
            silent = max(0.0, heard - self._silent_since.get(lane, heard))
            if now - self._sent_at.get(lane, now) >= _UNTRIED_SECONDS:
                silent = 0.0
            longest = max(longest, known * (ahead + 1), silent * ahead)
        return longest

    def _learn(self, lane: Lane, gap: float, now: float) -> None:
        if len(self._gaps) >= _LANES:
            self._gaps.clear()
            self._paces.clear()
        known = self._paces.get(lane)
        if known is not None and known.is_old(now):
            del self._gaps[lane], self._paces[lane]
        gaps = self._gaps.setdefault(lane, deque(maxlen=_GAPS))
        gaps.append(gap)
        if len(gaps) >= _LEAST_GAPS:
            # Without the longest: one pause says nothing of the jobs after it.
            self._paces[lane] = _Pace((sum(gaps) - max(gaps)) / (len(gaps) - 1), now)
