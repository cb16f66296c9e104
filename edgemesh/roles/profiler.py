"""Profiler: measures a model's units on this device while it is idle.

Nothing interrupts a measurement, so it is made in pieces: a job that comes waits for one run of one unit, or
for about a tenth of a second where units are shorter than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import MeasuredRun, Profile
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, FindProfile, Log, MeasureUnits, Publish, SetTimer, StoreProfile
from edgemesh.roles.events import (
    Connected,
    Event,
    ExecutorLost,
    ProfileFound,
    RangeRefused,
    RunMeasured,
    TimerFired,
)
from edgemesh.roles.growing_pauses import GrowingPauses

REFRESH_SECONDS = 1800.0
_REFRESH_COST = 0.005
"""Share of the device's time that profiling may take: a large model on a small board is measured more seldom.
What changes between is seen by jobs and speed checks."""
_PREFIXES = 8
_TIMER = "profile"
_POLL_SECONDS = 0.5
_PIECE_SECONDS: Final = 0.1
"""What nothing interrupts is about as long at most, or else one run of one unit."""
_LONGEST_SECONDS: Final = 1.0
"""Of a run of several units when the model is measured for the first time: no job of it runs here yet. What
takes longer is taken for the sum of its units; jobs show by how much that is wrong."""
_SHORT_SECONDS: Final = _PIECE_SECONDS / 4
"""Up to here the executor repeats the run as it likes: one to warm and three to count fit into a piece."""
_AGAIN_RUNS: Final = 3
"""Of a short run that was measured before: joules count as well, and most of them find what is known."""
_SAMPLES: Final = 3
"""Of a longer run, each a piece of its own."""
_QUIET_SECONDS: Final = 2.0
"""Without a job before a model is measured again."""
_LOSSES = 3
"""Measurements of one model that may take the executor with them before it is given up."""
_PAUSE_SECONDS = 60.0
"""Until a measurement that was refused is made again: what was short, memory most likely, may be there."""
Scale = Callable[[Manifest, Sequence[float], float], Sequence[float]]
"""``(manifest, seconds per unit, seconds of the whole)`` of this machine to the emulated board's per unit."""


@dataclass
class _Measuring:
    manifest: Manifest
    earlier: Profile | None
    """What was measured the last time."""
    todo: list[tuple[int, int]]
    spent: float = 0.0
    """Seconds of measuring so far."""
    samples: list[float] = field(default_factory=list)
    """Of the range at hand."""
    done: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)
    """Range to seconds and spread."""

    def expected(self, start: int, stop: int) -> float | None:
        """Seconds of a run, as far as known yet."""
        if stop - start == 1:
            return self.earlier.seconds[start] if self.earlier is not None else None
        return sum(self.done[unit, unit + 1][0] for unit in range(start, stop))

    def following(self) -> MeasureUnits:
        """The next piece of the work."""
        start, stop = self.todo[0]
        expected = self.samples[0] if self.samples else self.expected(start, stop)
        is_short = expected is not None and expected <= _SHORT_SECONDS
        enough = 0 if self.earlier is None else _AGAIN_RUNS
        return MeasureUnits(self.manifest.digest, start, stop, enough if is_short else 1)

    def take(self, asked: MeasureUnits, seconds: float, spread: float) -> None:
        """What a piece took."""
        if asked.runs == 1:
            self.samples.append(seconds)
            if self.samples[0] <= _SHORT_SECONDS or len(self.samples) < _SAMPLES:
                return
            seconds, spread = median(self.samples), (max(self.samples) - min(self.samples)) / 2.0
        self.samples.clear()
        self.done[self.todo.pop(0)] = seconds, spread
        while self.todo and self.is_too_long(*self.todo[0]):
            self.todo.pop(0)

    def is_too_long(self, start: int, stop: int) -> bool:
        """Whether a job could not be asked to wait for a run of these units."""
        if stop - start == 1:
            return False
        seconds = self.expected(start, stop)
        longest = max(taken for (first, last), (taken, _) in self.done.items() if last - first == 1)
        most = _LONGEST_SECONDS if self.earlier is None else _PIECE_SECONDS
        return seconds is not None and seconds > max(most, longest)

    def earlier_runs(self) -> list[MeasuredRun]:
        """What was not measured this time: as the last time, changed as its units have."""
        if self.earlier is None:
            return []
        runs = []
        for run in self.earlier.runs:
            if run.stop - run.start > 1 and (run.start, run.stop) not in self.done:
                before = max(sum(self.earlier.seconds[run.start : run.stop]), 1e-7)
                changed = (self.expected(run.start, run.stop) or before) / before
                runs.append(MeasuredRun(run.start, run.stop, run.seconds * changed))
        return runs


class Profiler:
    """Measures each unit, the whole and some prefixes of every held model, one at a time, when idle."""

    def __init__(
        self,
        device: str,
        topics: Topics,
        *,
        runtime_versions: dict[str, str],
        threads: int,
        is_idle: Callable[[], bool],
        emulate: Scale | None = None,
        is_disturbed: Callable[[], bool] = lambda: False,
    ) -> None:
        """``is_disturbed`` says whether others load the machine, or heat slows it down."""
        self.profiles: dict[str, Profile] = {}
        """By digest; what this machine measured, before an emulated board's factors."""
        self.published: dict[str, Profile] = {}
        """By digest; what the mesh is told."""
        self._names: dict[str, str] = {}
        self._device = device
        self._topics = topics
        self._versions = runtime_versions
        self._threads = threads
        self._is_idle = is_idle
        self._emulate = emulate
        self._is_disturbed = is_disturbed
        self._queue: list[Manifest] = []
        self._measuring: _Measuring | None = None
        self._asked: MeasureUnits | None = None
        self._asked_at = 0.0
        self._connected = False
        self._losses: dict[str, int] = {}
        self._refusals = GrowingPauses[str](_PAUSE_SECONDS, REFRESH_SECONDS)
        """Of measurements, by digest."""
        self._ran_at = float("-inf")
        """When a job ran here last."""

    @property
    def measuring(self) -> bool:
        """Whether a measurement is under way."""
        return self._asked is not None

    def ran(self, now: float) -> None:
        """A job ran units here."""
        self._ran_at = now

    def add(self, manifest: Manifest) -> list[Action]:
        """A model is held now: take its profile from the cache, or measure it."""
        if manifest.format not in self._versions or manifest.digest in self._names:
            return []
        self._names[manifest.digest] = manifest.name
        return [FindProfile(manifest)]

    def renamed(self, manifest: Manifest, before: str) -> list[Action]:
        """The name ``before`` stands for the content no longer, that of ``manifest`` does: tell it there."""
        if self._names.get(manifest.digest) != before:
            return []
        self._names[manifest.digest] = manifest.name
        if not self._connected or manifest.digest not in self.published:
            return []
        old = self._topics.build("profile", device=self._device, model=before)
        return [self._publish(manifest.digest), Publish(old, b"", qos=1, retain=True)]

    def forget(self, digest: str) -> None:
        """The content is gone; when it comes back it is profiled anew."""
        self.profiles.pop(digest, None)
        self.published.pop(digest, None)
        self._names.pop(digest, None)
        self._losses.pop(digest, None)
        self._refusals.forget(digest)
        self._queue = [manifest for manifest in self._queue if manifest.digest != digest]

    def handle(self, event: Event, now: float, held: dict[str, Manifest]) -> list[Action]:
        """React to measurements and to being idle."""
        if isinstance(event, ProfileFound):
            wanted = self._wanted(event.digest, held)
            return self._found(event, wanted, now) if wanted is not None else []
        if isinstance(event, RunMeasured):
            return self._measured(event, now)
        if isinstance(event, RangeRefused) and self._awaits(event):
            return self._refused(event, now)
        if isinstance(event, ExecutorLost) and self._asked is not None:
            return self._lost(event, now)
        if isinstance(event, TimerFired) and event.name == _TIMER:
            return self._next(now)
        if isinstance(event, TimerFired) and event.name.startswith("refresh:"):
            wanted = self._wanted(event.name[8:], held)
            return self._enqueue(wanted, now) if wanted is not None else []
        if isinstance(event, Connected):
            self._connected = True
            return [self._publish(digest) for digest in self.published]
        return []

    def _wanted(self, digest: str, held: dict[str, Manifest]) -> Manifest | None:
        """Content is held on for a while that has no name any more: nothing is told of it."""
        return held.get(digest) if digest in self._names else None

    def _found(self, event: ProfileFound, manifest: Manifest, now: float) -> list[Action]:
        if event.profile is None or len(event.profile.seconds) != manifest.unit_count:
            return self._enqueue(manifest, now)
        return [
            *self._keep(event.profile, manifest),
            SetTimer(f"refresh:{event.digest}", now + REFRESH_SECONDS),
        ]

    def _enqueue(self, manifest: Manifest, now: float) -> list[Action]:
        if all(waiting.digest != manifest.digest for waiting in self._queue):
            self._queue.append(manifest)
        return self._next(now)

    def _next(self, now: float) -> list[Action]:
        if self._asked is not None:
            return []
        if self._measuring is None:
            if not self._queue:
                return []
            manifest = self._queue.pop(0)
            earlier = self.profiles.get(manifest.digest)
            if earlier is not None and len(earlier.seconds) != manifest.unit_count:
                earlier = None  # the model was cut otherwise
            self._measuring = _Measuring(manifest, earlier, _ranges(manifest.unit_count))
        measuring = self._measuring
        wait = 0.0 if measuring.earlier is None else self._seconds_until_quiet(now)
        if wait > 0.0 or not self._is_idle():
            return [SetTimer(_TIMER, now + max(_POLL_SECONDS, wait))]
        self._asked = measuring.following()
        self._asked_at = now
        return [self._asked]

    def _seconds_until_quiet(self, now: float) -> float:
        """Before a model may be measured again: its profile is to tell of the idle machine, and can wait."""
        return _QUIET_SECONDS if self._is_disturbed() else self._ran_at + _QUIET_SECONDS - now

    def _measured(self, event: RunMeasured, now: float) -> list[Action]:
        measuring = self._measuring
        if measuring is None or self._asked is None or not self._awaits(event):
            return []
        asked, self._asked = self._asked, None
        self._losses.pop(event.digest, None)
        measuring.spent += now - self._asked_at
        measuring.take(asked, max(event.seconds, 1e-7), event.spread)
        if measuring.todo:
            return self._next(now)
        self._measuring = None
        manifest = measuring.manifest
        if manifest.digest not in self._names:
            return self._next(now)  # removed meanwhile
        self._refusals.forget(manifest.digest)
        profile = self._profile(measuring)
        pause = max(REFRESH_SECONDS, measuring.spent / _REFRESH_COST)
        refresh = SetTimer(f"refresh:{manifest.digest}", now + pause)
        return [*self._keep(profile, manifest), StoreProfile(profile), refresh, *self._next(now)]

    def _awaits(self, event: RunMeasured | RangeRefused) -> bool:
        """Whether this is about what was asked for, and not about a partition being loaded."""
        measuring = self._measuring
        return (
            measuring is not None
            and measuring.manifest.digest == event.digest
            and self._asked is not None
            and (self._asked.start, self._asked.stop) == (event.start, event.stop)
        )

    def _refused(self, event: RangeRefused, now: float) -> list[Action]:
        """The executor lives and cannot run it now: measure the model again, ever more seldom."""
        if event.digest not in self._names:
            return self._give_up("", now)  # removed meanwhile
        pause, is_news = self._refusals.refused(event.digest, event.text)
        text = f"{event.text}; tried again ever more seldom" if is_news else ""
        return [SetTimer(f"refresh:{event.digest}", now + pause), *self._give_up(text, now)]

    def _lost(self, event: ExecutorLost, now: float) -> list[Action]:
        """The executor died: perhaps of this measurement, more likely of a job. Measure again."""
        assert self._measuring is not None and self._asked is not None
        digest = self._measuring.manifest.digest
        if event.digest in (None, digest):
            losses = self._losses[digest] = self._losses.get(digest, 0) + 1
            if losses >= _LOSSES:
                return self._give_up(event.text, now)
        self._asked = None
        return [SetTimer(_TIMER, now + _POLL_SECONDS)]

    def _give_up(self, text: str, now: float) -> list[Action]:
        """End this measurement; the log is told ``text``, where there is any."""
        assert self._measuring is not None
        manifest = self._measuring.manifest
        self._measuring = self._asked = None
        if manifest.digest not in self._names or not text:
            return self._next(now)  # removed meanwhile, or said before
        return [Log("error", f"cannot profile {manifest.name}: {text}", manifest.digest), *self._next(now)]

    def _profile(self, measuring: _Measuring) -> Profile:
        manifest = measuring.manifest
        units = [measuring.done[(u, u + 1)] for u in range(manifest.unit_count)]
        runs = [
            MeasuredRun(start, stop, seconds)
            for (start, stop), (seconds, _) in measuring.done.items()
            if stop - start > 1
        ]
        runs += measuring.earlier_runs()
        return Profile(
            manifest.digest,
            manifest.format,
            self._versions[manifest.format],
            self._threads,
            tuple(seconds for seconds, _ in units),
            tuple(spread for _, spread in units),
            tuple(runs),
        )

    def _keep(self, profile: Profile, manifest: Manifest) -> list[Action]:
        self.profiles[manifest.digest] = profile
        self.published[manifest.digest] = self._scaled(profile, manifest)
        return [self._publish(manifest.digest)] if self._connected else []

    def _scaled(self, profile: Profile, manifest: Manifest) -> Profile:
        if self._emulate is None:
            return profile
        whole = next((r.seconds for r in profile.runs if r.stop - r.start == manifest.unit_count), None)
        seconds = self._emulate(manifest, profile.seconds, whole or sum(profile.seconds))
        slower = sum(seconds) / sum(profile.seconds)
        return Profile(
            profile.digest,
            profile.runtime,
            profile.runtime_version,
            profile.threads,
            tuple(seconds),
            tuple(slower * spread for spread in profile.spread),
            # An emulated run takes the sum of its units: that is how the executor paces it.
            tuple(MeasuredRun(r.start, r.stop, sum(seconds[r.start : r.stop])) for r in profile.runs),
            emulated=True,
        )

    def _publish(self, digest: str) -> Publish:
        topic = self._topics.build("profile", device=self._device, model=self._names[digest])
        return Publish(topic, encode_json(self.published[digest]), qos=1, retain=True)


def _ranges(units: int) -> list[tuple[int, int]]:
    """Every unit, the whole, and some prefixes and suffixes: a run is not the sum of its units."""
    ranges = [(u, u + 1) for u in range(units)]
    if units > 1:
        ranges.append((0, units))
    step = max(1, units // _PREFIXES)
    for cut in range(step, units, step):
        ranges += [r for r in ((0, cut), (cut, units)) if r[1] - r[0] > 1]
    return ranges
