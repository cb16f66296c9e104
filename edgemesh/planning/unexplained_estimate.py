"""Unexplained time: what jobs take beyond all that devices and links account for, and whose it is.

A device that reports runs ten times too short is believed by every other estimate: its profile and its
timings agree. Only the clock of the requester disagrees. From the receipt of the first device to the result,
that clock sees the hops' queues, runs and coding, plus the later crossings; what is left is unexplained. A
device is charged with no more than the least that any of its routes leaves unexplained, so one that also
serves a route on which nothing is missing is innocent; those that remain share equally, until another plan
tells them apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Final

from edgemesh.planning.newest import Newest

TOLERATED_SHARE: Final = 0.5
"""Of the predicted crossings after the receipt: links vary, and are estimated elsewhere."""
TOLERATED_RUN_SHARE: Final = 0.2
"""Of what the devices say: the agent around the executor, and clocks that do not tick alike."""
TOLERATED_SECONDS: Final = 0.005
"""Of a job: timers, scheduling, a broker that is busy."""
LEAST_JOBS: Final = 8
LEAST_SECONDS: Final = 20.0
"""So long it must last: until then a link that has changed explains it, once its estimate has followed."""
HEALING_SECONDS: Final = 600.0
"""After so long without a job over the route it tells nothing any more."""
LARGEST_FACTOR: Final = 50.0
_MATTERS: Final = 1.2
"""A factor below this is left to the other estimates."""
_JOBS: Final = 32
_ROUTES: Final = 256
"""And devices."""


class _Route:
    def __init__(self) -> None:
        self.told: Mapping[str, float] = {}
        """Seconds that each device says it ran in the last job."""
        self.left: deque[tuple[float, float]] = deque(maxlen=_JOBS)
        """Time, and seconds left unexplained."""
        self.since: float | None = None
        """Since when the median leaves something unexplained."""

    def add(self, seconds: float, now: float) -> None:
        self.left.append((now, seconds))
        if self._typical() <= 0.0:
            self.since = None
        elif self.since is None:
            self.since = now

    def unexplained(self, now: float) -> float | None:
        """Seconds that its jobs keep leaving unexplained; None where it has nothing to tell."""
        if not self.left or now - self.left[-1][0] > HEALING_SECONDS:
            return None
        lasts = self.since is not None and self.left[-1][0] - self.since >= LEAST_SECONDS
        return self._typical() if lasts and len(self.left) >= LEAST_JOBS else 0.0

    def _typical(self) -> float:
        return median(seconds for _, seconds in self.left)


class UnexplainedTime:
    """Of one model's content, by device. Feed it jobs, ask it for a factor at any time."""

    def __init__(self) -> None:
        self._routes: Newest[frozenset[str], _Route] = Newest(_ROUTES, _Route)
        self._runs: Newest[str, deque[float]] = Newest(_ROUTES, lambda: deque(maxlen=_JOBS))

    def observe(
        self, told: Mapping[str, float], seconds: float, accounted: float, crossings: float, now: float
    ) -> None:
        """One job, from the receipt of its first device to its result.

        ``told`` are the devices that may be charged, with the seconds that each says it ran; ``seconds`` is
        what the requester's clock saw, ``accounted`` what all devices say of queues, runs and coding,
        ``crossings`` the predicted seconds on the way.
        """
        if not told:
            return
        for device, ran in told.items():
            self._runs.fed(device).append(ran)
        route = self._routes.fed(frozenset(told))
        explained = (1.0 + TOLERATED_SHARE) * crossings + (1.0 + TOLERATED_RUN_SHARE) * accounted
        route.told = dict(told)
        route.add(max(0.0, seconds - explained - TOLERATED_SECONDS), now)

    def factor(self, device: str, now: float) -> float:
        """How many times longer its runs take than the device says; 1 where nothing is unexplained."""
        charged = self._charged(device, now)
        runs = self._runs.get(device)  # routes of many devices may be remembered longer
        if charged <= 0.0 or runs is None:
            return 1.0
        typical = max(median(runs), 1e-6)
        factor = min(1.0 + charged / typical, LARGEST_FACTOR)
        return factor if factor >= _MATTERS else 1.0

    def _charged(self, device: str, now: float) -> float:
        least = self._least(device, now)
        if least <= 0.0:
            return 0.0
        shares = [least]
        for route in self._routes.values():
            left = route.unexplained(now) if device in route.told else None
            if left:
                suspects = sum(self._least(other, now) > 0.0 for other in route.told)
                shares.append(left / suspects)
        return min(shares)

    def _least(self, device: str, now: float) -> float:
        """The least that any of the device's routes leaves unexplained; where it ran little, little says
        nothing."""
        routes = [route for route in self._routes.values() if device in route.told]
        longest = max((route.told[device] for route in routes), default=0.0)
        left = (route.unexplained(now) for route in routes if route.told[device] >= longest / 2.0)
        return min((seconds for seconds in left if seconds is not None), default=0.0)
