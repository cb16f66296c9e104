"""When to probe a link: rarely, at once where something surprises, for a bounded share of its time."""

from __future__ import annotations

from typing import Final

from edgemesh.planning.level import Level
from edgemesh.planning.link_estimate import SMALL_BYTES
from edgemesh.planning.robust import clamped, is_positive

PROBE_SECONDS: Final = 10.0
EARLY_PROBE_SECONDS: Final = 5.0
EARLY_PROBES: Final = 12
"""More often in the first minute: what is measured while everything starts tells of the start."""
FIRST_PROBES: Final = 3
"""Right after connecting, so that the first plan rests on measurements."""
DOUBT_SECONDS: Final = 0.5
"""Between probes while it is not clear whether the link has changed."""
LOST_SECONDS: Final = 10.0
"""A probe that has not come back after this, its expiry, will not."""
PATIENCE_SECONDS: Final = 2.0
"""For which a probe that is due waits for a link that is free."""
PROBE_COST: Final = 0.006
"""Share of the link's time that probes may take: a slow link is probed less often."""
PROBE_BYTES: Final = (64, 65_536)
"""Two sizes, because latency and rate are two unknowns; 65 KB in 10 s is under 1 % of a 1 MB/s link."""
_LONGEST_SECONDS: Final = 0.08
_LEAST_BYTES: Final = 2 * SMALL_BYTES
"""Where the larger one takes longer, the next is smaller, but never too small to tell the rate of a slow
link."""
_SAVED_SECONDS: Final = 2.0
_SAVED_PROBES: Final = 4.0
"""So much of its share may be saved, in seconds or in usual probes: enough to follow a change to slower."""
_BORROWED: Final = 3
"""Probes that a doubt may cost beyond that: however slow a link has become, it must be seen."""
_STALL_SECONDS: Final = 2.0
"""Longer than this a link was not carrying a probe but standing still: the next ones are smaller anyway."""
_LARGEST_DEBT: Final = 1.0
"""In usual probes, after a change. What it took to see a link fall is not held against seeing it rise
again."""
_FORGIVE_SECONDS: Final = 600.0
_FORGIVEN: Final = 2.4
"""So many seconds of debt are forgiven in that time at most: with the share above, less than 1 % in all."""


class ProbePlan:
    """Of one link."""

    def __init__(self) -> None:
        self.connected(0.0)

    def connected(self, now: float) -> None:
        """A new connection: what is known of the old one's link may not hold."""
        self.count = 0
        """Probes so far on this connection."""
        self.next_at = now
        """When the next one may be due, if the link can afford it."""
        self.nbytes = max(PROBE_BYTES)
        """Size of the next large probe."""
        self._level = Level()
        """Seconds per byte that a large probe takes there and back."""
        self._credit, self._credit_at = 0.0, now
        self._forgave_at = float("-inf")
        self._borrowed = 0
        self._doubted = False
        """Whether something was not as usual since the last probe."""

    def due(self, now: float) -> bool:
        """Whether a probe should be sent, where none is under way."""
        if now < self.next_at:
            return False
        self._save(now)
        return self.count < FIRST_PROBES or self._credit >= 0.0 or self._may_borrow

    def sent(self, now: float) -> None:
        """A probe is sent."""
        if self.count >= FIRST_PROBES and self._credit < 0.0:
            self._borrowed += 1
        self.count += 1
        self._doubted = False
        if self.count >= FIRST_PROBES:
            self.next_at = now + (EARLY_PROBE_SECONDS if self.count < EARLY_PROBES else PROBE_SECONDS)

    def returned(self, nbytes: int, seconds: float, now: float) -> None:
        """A large probe of ``nbytes`` came back after ``seconds``."""
        self._save(now)
        if self.count > FIRST_PROBES:
            self._credit -= min(seconds, _STALL_SECONDS)
        if not is_positive(seconds):
            return
        if self._level.add(seconds / nbytes, now):
            self._forgive(now)
        fitting = nbytes * _LONGEST_SECONDS / seconds
        self.nbytes = round(clamped(fitting, _LEAST_BYTES, max(PROBE_BYTES)))
        if self._level.doubtful:
            self.doubt(now)

    def doubt(self, now: float) -> None:
        """Something took another time than usual: the next probes tell whether that lasts."""
        self._doubted = True
        self.next_at = min(self.next_at, now + DOUBT_SECONDS)

    @property
    def _may_borrow(self) -> bool:
        return (self._doubted or self._level.doubtful) and self._borrowed < _BORROWED

    def _forgive(self, now: float) -> None:
        debt = -self._credit - _LARGEST_DEBT * self._usual(now)
        if debt > 0.0 and now - self._forgave_at >= _FORGIVE_SECONDS:
            self._credit += min(debt, _FORGIVEN)
            self._forgave_at = now

    def _usual(self, now: float) -> float:
        return self._level.read(now, 1.0).value * self.nbytes if self._level else 0.0

    def _save(self, now: float) -> None:
        earned = PROBE_COST * max(0.0, now - self._credit_at)
        self._credit = min(self._credit + earned, max(_SAVED_SECONDS, _SAVED_PROBES * self._usual(now)))
        self._credit_at = now
        if self._credit >= 0.0:
            self._borrowed = 0
