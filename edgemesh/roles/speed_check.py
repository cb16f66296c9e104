"""Speed checks: a short measured run of a model that no job has run lately, so that its speed stays known.

Without them a device once found slow would stay unused for ever, or until the correction is forgotten, right
or wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from edgemesh.planning.level import Level
from edgemesh.planning.robust import is_positive
from edgemesh.planning.slowdown_estimate import LOAD_NOISE, LOAD_STEP, share_of_others
from edgemesh.protocol.presence import Profile, Resources
from edgemesh.roles.actions import Action, MeasureUnits, SetTimer
from edgemesh.roles.events import (
    Connected,
    Event,
    ExecutorLost,
    RangeRefused,
    ResourcesRead,
    RunMeasured,
    TimerFired,
)

CHECK_SECONDS: Final = 10.0
"""A model that ran within this time, for a job or a check, is known well enough."""
DOUBT_SECONDS: Final = 0.6
"""Between checks while it is not clear whether the speed has changed: three of them span more than a
second."""
CHECK_COST: Final = 0.004
"""Share of the device's time that checks may take, loading included; as much again those for a reason."""
_SAVED_SECONDS: Final = 1.5
"""So much of it may be saved for a reason to come."""
_RUNS: Final = 2
_WANTED_SECONDS: Final = 0.005
"""Of one run: much shorter ones are all overhead and scheduling, longer ones keep a job waiting."""
_LONG_SECONDS: Final = 0.05
"""A run that takes longer is made once: a job may come."""
_LOST_SECONDS: Final = 60.0
_BUSY_SECONDS: Final = 0.5
_DOUBTS: Final = 4
"""Checks that one doubt is worth: as many samples as a step takes at most."""
_TIMER: Final = "speed-check"


class _Budget:
    """Seconds that may be spent: a share of the time, of which some may be saved."""

    def __init__(self, saved: float) -> None:
        self._credit = saved
        self._at = 0.0

    def allows(self, now: float) -> bool:
        """Whether something is left."""
        self._credit = min(self._credit + CHECK_COST * max(0.0, now - self._at), _SAVED_SECONDS)
        self._at = now
        return self._credit >= 0.0

    def spend(self, seconds: float) -> None:
        """Take from it, into debt if need be."""
        self._credit -= seconds

    @property
    def debt(self) -> float:
        """Seconds until something is left again."""
        return max(0.0, -self._credit / CHECK_COST)


class Report(Protocol):
    """Where the timings go."""

    def __call__(
        self, digest: str, start: int, stop: int, seconds: float, now: float, *, probe: bool
    ) -> list[Action]:
        """Units ran; the actions are carried out."""
        ...


class _Asked(NamedTuple):
    digest: str
    start: int
    stop: int
    at: float
    expected: float
    """Seconds on this machine, by its profile."""
    told: float
    """The same, as the mesh knows it: another figure for an emulated board."""


class SpeedCheck:
    """One device's; it only measures while ``is_idle``."""

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        told: Mapping[str, Profile],
        *,
        is_idle: Callable[[], bool],
        report: Report,
    ) -> None:
        """``profiles`` by digest as this machine measured them, ``told`` as the mesh knows them."""
        self._profiles = profiles
        self._told = told
        self._is_idle = is_idle
        self._report = report
        self._ran_at: dict[str, float] = {}
        """When the model was run last, for a job or a check."""
        self._levels: dict[str, Level] = {}
        self._doubts: dict[str, int] = {}
        """Checks still to be made of a model, for a reason."""
        self._asked: _Asked | None = None
        self._routine = _Budget(0.0)
        self._reasons = _Budget(_SAVED_SECONDS)
        self._wakes_at = math.inf
        self._load = 0.0
        self._throttled: frozenset[str] = frozenset()

    @property
    def is_disturbed(self) -> bool:
        """Whether the last reading showed load of others or throttling."""
        return self._load > LOAD_NOISE or bool(self._throttled)

    def ran(self, digest: str, now: float, *, surprising: bool) -> list[Action]:
        """A job ran units of the model; ``surprising`` when they did not take what they usually take."""
        self._ran_at[digest] = now
        if surprising:
            return self._doubt(digest, now)
        self._doubts.pop(digest, None)  # settled
        return []

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to measurements, to readings of the machine and to the time."""
        if isinstance(event, RunMeasured):
            return self._measured(event, now)
        if isinstance(event, TimerFired) and event.name == _TIMER:
            return self._next(now)
        if isinstance(event, ResourcesRead):
            return self._read(event.resources, now)
        if isinstance(event, (ExecutorLost, RangeRefused)):
            self._asked = None
        elif not isinstance(event, Connected):
            return []
        return self._wake(now + CHECK_SECONDS)

    def _read(self, resources: Resources, now: float) -> list[Action]:
        throttled = frozenset(resources.throttled)
        others = share_of_others(resources.cpu, resources.own or 0.0)
        load = self._load if others is None else others
        if throttled == self._throttled and abs(load - self._load) < LOAD_STEP:
            return []
        self._throttled, self._load = throttled, load
        return [action for digest in self._told for action in self._doubt(digest, now)]

    def _doubt(self, digest: str, now: float) -> list[Action]:
        if digest in self._told:
            self._doubts.setdefault(digest, _DOUBTS)
        return self._wake(now + DOUBT_SECONDS)

    def _next(self, now: float) -> list[Action]:
        self._wakes_at = math.inf
        if self._asked is not None and now - self._asked.at < _LOST_SECONDS:
            return self._wake(now + _BUSY_SECONDS)
        digest = self._due(now)
        if digest is None:
            return self._wake(now + (DOUBT_SECONDS if self._doubts else CHECK_SECONDS / 4.0))
        if not self._is_idle():
            return self._wake(now + _BUSY_SECONDS)
        budget = self._reasons if digest in self._doubts else self._routine
        if not budget.allows(now):
            self._doubts.pop(digest, None)  # it is checked as any other now
            return self._wake(now + max(DOUBT_SECONDS, min(budget.debt, CHECK_SECONDS)))
        start, stop, expected = _short_run(self._profiles[digest])
        self._asked = _Asked(digest, start, stop, now, expected, _seconds_of(self._told[digest], start, stop))
        runs = _RUNS if expected <= _LONG_SECONDS else 1
        return [MeasureUnits(digest, start, stop, runs), *self._wake(now + _LOST_SECONDS)]

    def _due(self, now: float) -> str | None:
        """The model that was not run for the longest time, those in doubt before all others."""
        held = [digest for digest in self._told if digest in self._profiles]
        tables: tuple[dict[str, Any], ...] = (self._ran_at, self._levels, self._doubts)
        for table in tables:
            for digest in [digest for digest in table if digest not in self._told]:
                del table[digest]
        doubtful = [digest for digest in held if digest in self._doubts]
        stalest = min(doubtful or held, key=lambda digest: self._ran_at.get(digest, -math.inf), default=None)
        if stalest is None or doubtful:
            return stalest
        return stalest if now - self._ran_at.get(stalest, -math.inf) >= CHECK_SECONDS else None

    def _measured(self, event: RunMeasured, now: float) -> list[Action]:
        asked = self._asked
        if asked is None or (event.digest, event.start, event.stop) != asked[:3]:
            return []
        self._asked = None
        (self._reasons if asked.digest in self._doubts else self._routine).spend(now - asked.at)
        self._ran_at[asked.digest] = now
        if asked.digest not in self._told or not is_positive(event.seconds, asked.expected):
            return self._wake(now + _BUSY_SECONDS)
        ratio = event.seconds / asked.expected
        level = self._levels.setdefault(asked.digest, Level())
        if not level:
            level.add(1.0, now)  # the profile: a first check that disagrees with it is worth another one
        level.add(ratio, now)
        left = self._doubts.pop(asked.digest, 0) - 1
        if left > 0 or (level.doubtful and left < 0):
            self._doubts[asked.digest] = left if left > 0 else _DOUBTS - 1
        reported = self._report(asked.digest, asked.start, asked.stop, ratio * asked.told, now, probe=True)
        return [*reported, *self._wake(now + (DOUBT_SECONDS if self._doubts else CHECK_SECONDS / 4.0))]

    def _wake(self, at: float) -> list[Action]:
        """Look again at ``at``, or before where that is planned already."""
        if at >= self._wakes_at:
            return []
        self._wakes_at = at
        return [SetTimer(_TIMER, at)]


def _short_run(profile: Profile) -> tuple[int, int, float]:
    """The measured run whose time is nearest to the one wanted, with that time."""
    runs = [(u, u + 1, seconds) for u, seconds in enumerate(profile.seconds)]
    runs += [(run.start, run.stop, run.seconds) for run in profile.runs if run.seconds > 0.0]
    return min(runs, key=lambda run: abs(math.log(run[2] / _WANTED_SECONDS)))


def _seconds_of(profile: Profile, start: int, stop: int) -> float:
    if stop - start == 1:
        return profile.seconds[start]
    measured = (run.seconds for run in profile.runs if (run.start, run.stop) == (start, stop))
    return next(measured, sum(profile.seconds[start:stop]))
