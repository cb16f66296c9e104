"""A modelled machine under a device's role: its executor, its disk and its resources."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from edgemesh.errors import DeadlineError, DecodeError
from edgemesh.protocol.content import ChunkHeader, encode_chunk
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Profile, Resources
from edgemesh.roles.actions import (
    FindContent,
    LoadUnits,
    MeasureUnits,
    Publish,
    RunUnits,
    SendChunk,
    StoreChunk,
    UnloadUnits,
)
from edgemesh.roles.events import (
    ContentDamaged,
    ContentFound,
    ContentStored,
    Event,
    ExecutorLost,
    RangeLoaded,
    RangeRefused,
    RunFailed,
    RunFinished,
    RunMeasured,
)
from edgemesh.simulation.clock import VirtualClock
from edgemesh.simulation.models import hashed_outputs

Outputs = Callable[[Manifest, int, int, "bytes | memoryview", str], bytes]
"""``(manifest, start, stop, section, codec)`` to what a run makes of the section."""
Deliver = Callable[[Event], None]
ExecutorAction = RunUnits | LoadUnits | UnloadUnits | MeasureUnits
DISK_SECONDS = 0.002
CODE_SECONDS = 0.0002
"""Of each run, for decoding its input and encoding its output."""
_MEASURE_SECONDS, _MEASURE_RUNS = 0.12, (3, 25)
"""As ``runtime/worker_process.py`` measures: so long, but at least and at most so often."""
_RESTART_SECONDS = 0.5


@dataclass
class Speed:
    """How fast a machine is; change the fields at any time."""

    unit_seconds: float = 0.01
    """Of each unit, times the model's own weight of it."""
    load_seconds: float = 0.2
    first_load_seconds: float = 0.0
    """Of the first load of a process besides."""
    jitter: float = 0.0
    """Standard deviation of a run's time, as a share of it."""
    effort: float = 1.0
    weights: dict[int, float] = field(default_factory=dict)
    """Unit to its share of ``unit_seconds``; 1 where nothing is said."""

    def of(self, digest: str, start: int, stop: int) -> float:
        """Seconds of a run; the same for every model."""
        return self.unit_seconds * sum(self.weights.get(unit, 1.0) for unit in range(start, stop))


class Pace(Protocol):
    """How fast a machine runs models."""

    load_seconds: float
    first_load_seconds: float
    jitter: float

    @property
    def effort(self) -> float:
        """Share of the machine's power above idle that a run takes now."""
        ...

    def of(self, digest: str, start: int, stop: int) -> float:
        """Seconds of a run now."""
        ...


class Disk:
    """Model content and profiles; it outlives the processes that use it."""

    def __init__(self) -> None:
        self.whole: dict[str, tuple[Manifest, bytes]] = {}
        self.parts: dict[tuple[str, int], dict[int, bytes]] = {}
        """By digest and size of the chunks."""
        self.profiles: dict[str, Profile] = {}

    def put(self, manifest: Manifest, content: bytes) -> None:
        """Whole content, as ``model add`` leaves it."""
        assert hashlib.sha256(content).hexdigest() == manifest.digest
        self.whole[manifest.digest] = manifest, content

    def find(self, action: FindContent) -> Event:
        """What ``FindContent`` answers."""
        manifest = action.manifest
        if manifest.digest in self.whole:
            self.whole[manifest.digest] = manifest, self.whole[manifest.digest][1]  # it may be cut otherwise
            return ContentStored(manifest.digest)
        return ContentFound(manifest.digest, frozenset(self.parts.get(_part(manifest), {})))

    def store(self, action: StoreChunk) -> Event | None:
        """What ``StoreChunk`` answers after the last chunk."""
        manifest = action.manifest
        parts = self.parts.setdefault(_part(manifest), {})
        parts[action.index] = action.data
        if not action.last:
            return None
        content = b"".join(parts[index] for index in range(len(manifest.chunks)))
        del self.parts[_part(manifest)]
        if hashlib.sha256(content).hexdigest() != manifest.digest:
            return ContentDamaged(manifest.digest)
        self.whole[manifest.digest] = manifest, content
        return ContentStored(manifest.digest)

    def chunk(self, action: SendChunk) -> Publish | None:
        """The message that ``SendChunk`` stands for."""
        if action.digest not in self.whole:
            return None
        at = action.index * action.chunk_bytes
        data = self.whole[action.digest][1][at : at + action.chunk_bytes]
        payload = encode_chunk(ChunkHeader(action.digest, action.index), data)
        return Publish(action.topic, payload, expiry=10.0, bulk=True)

    def drop(self, digest: str) -> None:
        """Delete content."""
        self.whole.pop(digest, None)
        for part in [part for part in self.parts if part[0] == digest]:
            del self.parts[part]


def _part(manifest: Manifest) -> tuple[str, int]:
    return manifest.digest, manifest.chunk_bytes


class Executor:
    """Runs one thing at a time, jobs before loads before measurements, as the executor process does.

    As there, the next run is with it ahead of its turn where nothing else waits, and otherwise a load or
    measurement has its turn after each run.
    """

    def __init__(
        self,
        clock: VirtualClock,
        disk: Disk,
        speed: Pace,
        seed: int,
        deliver: Deliver,
        outputs: Outputs = hashed_outputs,
    ) -> None:
        self.speed = speed
        self.runs: list[RunUnits] | None = []
        """All runs begun, in order; None where nobody wants to know."""
        self.busy_seconds = 0.0
        """Of everything it has done."""
        self._started_at: float | None = None
        self._effort = 0.0
        """Of what it is at: when that began."""
        self.effort_seconds = 0.0
        """The same, each second times the effort it took."""
        self.on_begin: Callable[[RunUnits], None] = lambda action: None
        """Hears of each run when it begins."""
        self.deadly: Callable[[ExecutorAction], bool] = lambda action: False
        """What kills the process."""
        self._clock = clock
        self._disk = disk
        self._random = Random(seed)
        self._outputs = outputs
        self._deliver = deliver
        self._urgent: deque[RunUnits] = deque()
        self._patient: deque[ExecutorAction] = deque()
        self._at: ExecutorAction | None = None
        """What it is at."""
        self._loading_seconds = 0.0
        """What loading took before the run under way."""
        self._loaded: set[tuple[str, int, int]] = set()
        self._fresh = True
        """Whether the process has not loaded anything yet."""
        self._measured = (0.0, 0.0)
        """Seconds and spread of the measurement under way."""
        self._busy = False
        self._was_run = False
        self._ahead: RunUnits | None = None
        self._life = 0

    def busy_until(self, now: float) -> float:
        """Seconds of everything it has done until ``now``, what it is at included."""
        return self.busy_seconds + (now - self._started_at if self._started_at is not None else 0.0)

    def submit(self, action: ExecutorAction) -> None:
        """Carry out an action; its event follows."""
        if isinstance(action, RunUnits):
            self._urgent.append(action)
        else:
            self._patient.append(action)
        self._next()

    def kill(self, text: str = "the executor process ended by signal 9") -> None:
        """The process dies; a new one with nothing loaded takes its place."""
        self._life += 1
        self._started_at = None
        self._urgent.clear()
        self._patient.clear()
        self._loaded.clear()
        self._fresh = True
        self._busy, self._was_run, self._ahead = True, False, None
        at, self._at = self._at, None
        self._clock.call_later(_RESTART_SECONDS, self._restarted, self._life)
        self._deliver(ExecutorLost(text, at.digest if at is not None else None))

    def stop(self) -> None:
        """The machine is gone."""
        self._life += 1
        self._busy = True

    def _restarted(self, life: int) -> None:
        if life == self._life:
            self._busy = False
            self._next()

    def _next(self) -> None:
        if self._busy:
            self._take_ahead()
            return
        action, self._ahead = self._ahead or self._taken(), None
        if action is None:
            return
        self._busy, self._was_run, self._at = True, isinstance(action, RunUnits), action
        partition = (action.digest, action.start, action.stop)
        seconds = 0.0001
        too_late = isinstance(action, RunUnits) and self._clock.now > action.until
        if isinstance(action, RunUnits) and not too_late:
            seconds = self._run_seconds(action)
            self.on_begin(action)
            if self.runs is not None:
                self.runs.append(action)
        elif isinstance(action, MeasureUnits):
            seconds = self._measure(action)
        if isinstance(action, (RunUnits, LoadUnits)) and not too_late and partition not in self._loaded:
            self._loading_seconds = self.speed.load_seconds + self._first_load_seconds()
            seconds += self._loading_seconds
            self._loaded.add(partition)
        else:
            self._loading_seconds = 0.0
        self._started_at, self._effort = self._clock.now, self.speed.effort
        self._clock.call_later(seconds, self._done, self._life, action, seconds, too_late)
        self._take_ahead()

    def _first_load_seconds(self) -> float:
        fresh, self._fresh = self._fresh, False
        return self.speed.first_load_seconds if fresh else 0.0

    def _taken(self) -> ExecutorAction | None:
        has_turn = self._patient and (self._was_run or not self._urgent)
        queue = self._patient if has_turn else self._urgent
        return queue.popleft() if queue else None

    def _take_ahead(self) -> None:
        if self._was_run and self._ahead is None and self._urgent and not self._patient:
            self._ahead = self._urgent.popleft()

    def _run_seconds(self, action: RunUnits | MeasureUnits) -> float:
        noise = max(0.2, self._random.gauss(1.0, self.speed.jitter)) if self.speed.jitter else 1.0
        seconds = self.speed.of(action.digest, action.start, action.stop) * noise
        return max(seconds, action.at_least) + CODE_SECONDS if isinstance(action, RunUnits) else seconds

    def _measure(self, action: MeasureUnits) -> float:
        """Run it as often as an executor does, one run to warm it; all of them together take the answer."""
        warm = self._run_seconds(action)
        most = max(_MEASURE_RUNS[0], min(_MEASURE_RUNS[1], int(_MEASURE_SECONDS / max(warm, 1e-6)) + 1))
        if action.runs == 1 and warm >= _MEASURE_SECONDS:
            self._measured = warm, 0.0
            return warm
        runs = sorted(self._run_seconds(action) for _ in range(action.runs or most))
        middle = runs[len(runs) // 2]
        self._measured = middle, (runs[len(runs) * 3 // 4] - runs[len(runs) // 4]) / 2.0
        return warm + sum(runs)

    def _done(self, life: int, action: ExecutorAction, seconds: float, too_late: bool) -> None:
        if life != self._life:
            return
        if self.deadly(action):
            self.kill()
            return
        self._busy, self._at = False, None
        self._started_at = None
        self.busy_seconds += seconds
        self.effort_seconds += seconds * self._effort
        event: Event | None
        if isinstance(action, RunUnits) and too_late:
            event = RunFailed(action.run, DeadlineError.code, "its deadline passed before it began")
        else:
            event = self._answer(action, seconds)
        self._next()
        if event is not None:
            self._deliver(event)

    def _answer(self, action: ExecutorAction, seconds: float) -> Event | None:
        digest, start, stop = action.digest, action.start, action.stop
        known = self._disk.whole.get(digest)
        if isinstance(action, UnloadUnits):
            self._loaded.discard((digest, start, stop))
            return None
        if known is None or stop > known[0].unit_count:
            text = "this executor has not opened that model"
            if isinstance(action, RunUnits):
                return RunFailed(action.run, "unknown-model", text)
            return RangeRefused(digest, start, stop, text)
        if isinstance(action, LoadUnits):
            return RangeLoaded(digest, start, stop, 1_000_000)
        if isinstance(action, MeasureUnits):
            return RunMeasured(digest, start, stop, *self._measured)
        try:
            section = self._outputs(known[0], start, stop, action.section, action.codec)
        except DecodeError as error:
            return RunFailed(action.run, error.code, str(error))
        code = CODE_SECONDS + self._loading_seconds  # where an executor counts it
        return RunFinished(action.run, section, seconds - code, code)


def resources() -> Resources:
    """A reading that never changes."""
    return Resources(0.1, 1 << 30, 1 << 29)
