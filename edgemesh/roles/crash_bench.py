"""Crash bench: a model that keeps killing this device's executor is left out here for a while.

Each death takes what is loaded of every other model with it. A death by signal 9 counts, too: that is how a
system out of memory ends who took too much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edgemesh.roles.actions import Action, Log, SetTimer
from edgemesh.roles.events import Event, ExecutorLost, TimerFired

CRASHES = 3
_WITHIN_SECONDS = 60.0
"""So many deaths in this time bench a model: one a day is no reason to do without it."""
FIRST_BENCH_SECONDS, LONGEST_BENCH_SECONDS = 30.0, 600.0
_TIMER = "crash-bench:"


class CrashBench:
    """Which models are benched on this device, and why."""

    def __init__(self, device: str, name_of: Callable[[str], str]) -> None:
        """``name_of(digest)`` is how people call the model."""
        self.benched: dict[str, str] = {}
        """Digest to the sentence that answers its jobs."""
        self._device = device
        self._name_of = name_of
        self._deaths: dict[str, deque[float]] = {}
        self._seconds: dict[str, float] = {}
        """Digest to how long its next bench lasts: twice the one before."""

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to a death of the executor and to the end of a bench."""
        if isinstance(event, TimerFired) and self.is_due(event):
            return self._back(event.name.removeprefix(_TIMER))
        if isinstance(event, ExecutorLost) and event.digest is not None and event.digest not in self.benched:
            return self._died(event.digest, event.text, now)
        return []

    def is_due(self, event: Event) -> bool:
        """Whether the event is the end of a bench."""
        return isinstance(event, TimerFired) and event.name.startswith(_TIMER)

    def forget(self, digest: str) -> None:
        """The content was replaced or removed: nothing is held against what comes in its place."""
        for known in (self.benched, self._deaths, self._seconds):
            known.pop(digest, None)

    def _died(self, digest: str, text: str, now: float) -> list[Action]:
        deaths = self._deaths.setdefault(digest, deque(maxlen=CRASHES))
        deaths.append(now)
        if len(deaths) < CRASHES or now - deaths[0] > _WITHIN_SECONDS:
            return []
        deaths.clear()
        seconds = self._seconds.get(digest, FIRST_BENCH_SECONDS)
        self._seconds[digest] = min(2 * seconds, LONGEST_BENCH_SECONDS)
        name = self._name_of(digest)
        reason = (
            f"model {name} killed the executor of {self._device} {CRASHES} times in a minute ({text}) and is "
            f"left out there for {seconds:.0f} s: see whether memory is short there, or add another model"
        )
        self.benched[digest] = reason
        return [Log("error", reason, name), SetTimer(_TIMER + digest, now + seconds)]

    def _back(self, digest: str) -> list[Action]:
        if self.benched.pop(digest, None) is None:
            return []
        return [Log("info", "the model is taken again", self._name_of(digest))]
