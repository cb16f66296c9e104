"""Answer pace: how long a job of this requester would wait behind those that it has under way already."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

_GAPS: Final = 16
_LEAST_GAPS: Final = 4
_DEVICES: Final = 4096
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
    """Seconds between two answers over a device while more are under way over it.

    A device answers ``busy`` by what waits in its own queue. What waits on the way to it, at a slow link or
    in the broker, only the requester can see, and only by how fast answers come home.
    """

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        """When the last answer came, of devices over which more were under way then, and are since."""
        self._silent_since: dict[str, float] = {}
        """When a device was sent a job or answered one last, while it has one to answer."""
        self._sent_at: dict[str, float] = {}
        """When the last job was sent over a device."""
        self._gaps: dict[str, deque[float]] = {}
        self._paces: dict[str, _Pace] = {}

    def __bool__(self) -> bool:
        """Whether anything can be said: never, while jobs come one at a time."""
        return bool(self._paces or self._silent_since)

    def sent(self, devices: Iterable[str], under_way: Callable[[str], int], now: float) -> None:
        """A job is about to be sent over ``devices``; ``under_way`` tells how many are over one of them."""
        for device in devices:
            if device in self._sent_at or len(self._sent_at) < _DEVICES:
                self._sent_at[device] = now
            if not under_way(device):
                self._last.pop(device, None)  # between the last answer and now there was nothing to answer
                if len(self._silent_since) < _DEVICES:
                    self._silent_since[device] = now

    def interrupted(self) -> None:
        """No answers could come for a while, as the broker was away."""
        self._last.clear()
        self._silent_since.clear()

    def answered(
        self, devices: Iterable[str], under_way: Callable[[str], int], now: float, sent: float = float("-inf")
    ) -> None:
        """The result of a job that was ``sent`` over ``devices`` came.

        ``under_way`` tells how many more jobs are over one of them. That one of them is lost, and the device
        idle between the others, is no pace: a gap begins when its job was sent at the earliest.
        """
        for device in devices:
            last = self._last.pop(device, None)
            if last is not None:
                self._learn(device, now - max(last, sent), now)
            self._silent_since.pop(device, None)
            if under_way(device) and len(self._last) < _DEVICES:
                self._last[device] = self._silent_since[device] = now

    def seconds(
        self, devices: Iterable[str], under_way: Callable[[str], int], now: float, heard: float
    ) -> float:
        """Until a job over ``devices`` that is sent now is answered; 0 where that is not known.

        What was slow may be fast again, and only a job can show it: over a device with none it is 0, too.
        Where no answer comes there is no pace, but a job takes at least as long as nothing has been heard: or
        nothing would ever be too much for the slowest. The one that it is at has had that time already. Where
        none was sent for a while either, that nothing is heard may mean that it was lost on its way.

        What was answered until ``heard`` has arrived. Later answers may have come to the broker and wait
        there behind what others send us: that silence is not the device's.
        """
        longest = 0.0
        for device in devices:
            ahead = under_way(device)
            if not ahead:
                continue
            pace = self._paces.get(device)
            known = pace.seconds if pace is not None and not pace.is_old(now) else 0.0
            silent = max(0.0, heard - self._silent_since.get(device, heard))
            if now - self._sent_at.get(device, now) >= _UNTRIED_SECONDS:
                silent = 0.0
            longest = max(longest, known * (ahead + 1), silent * ahead)
        return longest

    def _learn(self, device: str, gap: float, now: float) -> None:
        if len(self._gaps) >= _DEVICES:
            self._gaps.clear()
            self._paces.clear()
        known = self._paces.get(device)
        if known is not None and known.is_old(now):
            del self._gaps[device], self._paces[device]
        gaps = self._gaps.setdefault(device, deque(maxlen=_GAPS))
        gaps.append(gap)
        if len(gaps) >= _LEAST_GAPS:
            # Without the longest: one pause says nothing of the jobs after it.
            self._paces[device] = _Pace((sum(gaps) - max(gaps)) / (len(gaps) - 1), now)
