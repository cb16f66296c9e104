"""Faults one after the other, by a seed, each until the mesh is whole again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.report import NotMeasurableError

from outages.faults import KINDS, Kind
from outages.mesh import Mesh
from outages.records import FaultRecord, Records

_WHOLE_SECONDS = 40.0
_TAKEOVER_SECONDS = 30.0
_STANDBY_SECONDS = 30.0
_MISSING_SECONDS = 10.0
"""From the broker's return until everything must be retained again."""
_MID_JOB_SECONDS = 2.0
_INTO_RUN = 0.06
"""Seconds at most between a job's coming and the fault."""


def quick_kinds(chance: random.Random) -> Iterator[str]:
    """A few faults of most kinds, in a random order."""
    names = [name for name, kind in KINDS.items() for _ in range(kind.quick)]
    chance.shuffle(names)
    return iter(names)


def endless_kinds(chance: random.Random) -> Iterator[str]:
    """Faults of all kinds by their weights, each kind once before the first comes again."""
    names = list(KINDS)
    while True:
        chance.shuffle(names)
        yield from names
        yield from chance.choices(names, [KINDS[name].weight for name in names], k=len(names))


class Schedule:
    """Injects faults; ``say`` is told of each."""

    def __init__(
        self,
        mesh: Mesh,
        records: Records,
        streams: Sequence[str],
        chance: random.Random,
        calm: tuple[float, float],
        say: Callable[[str], None],
    ) -> None:
        """``calm`` is the least and the most seconds between two faults."""
        self._mesh = mesh
        self._records = records
        self._streams = streams
        self._chance = chance
        self._calm = calm
        self._say = say

    def run(self, kinds: Iterator[str], ends: float) -> None:
        """Until ``kinds`` is through or no fault is begun any more, at time ``ends``."""
        for name in kinds:
            time.sleep(self._chance.uniform(*self._calm))
            if time.monotonic() >= ends:
                return
            self._one(name, KINDS[name])

    def _one(self, name: str, kind: Kind) -> None:
        mesh = self._mesh
        waited = None if kind.role is None else self._wait_for_standby(kind.role)
        targets = kind.targets(mesh)
        if not targets:
            return
        target = self._chance.choice(targets)
        before = mesh.observer.holder(kind.role)[1] if kind.role else 0
        if kind.mid_job and mesh.observer.wait_for_next(f"device/{target}/work", _MID_JOB_SECONDS):
            time.sleep(self._chance.uniform(0.0, _INTO_RUN))
        record = FaultRecord(name, target, time.monotonic(), lost_store=kind.loses_store, standby=waited)
        self._records.faults.append(record)
        kind.strike(mesh, target)
        if kind.role is not None:
            record.takeover = self._takeover(kind.role, before, record.at)
        heir = mesh.observer.holder(kind.role) if kind.role else None
        time.sleep(self._chance.uniform(*kind.hold))
        kind.undo(mesh, target)
        record.undone = time.monotonic()
        if not mesh.observer.wait(lambda: self._is_whole(record), _WHOLE_SECONDS):
            raise NotMeasurableError(
                f"the mesh was not whole {_WHOLE_SECONDS:.0f} s after: {name} ({target}); without an answer: "
                f"{', '.join(self._unanswered(record)) or 'no stream'}\n{mesh.log_ends()}"
            )
        record.whole = time.monotonic()
        if kind.loses_store:
            mesh.observer.wait(lambda: not mesh.missing(), _MISSING_SECONDS - (record.whole - record.undone))
            record.missing = tuple(mesh.missing())
            self._say(f"{name}: retained again {_healed(record.missing)}")
            mesh.publish_policy()
        if (role := kind.role) and kind.watched:
            record.changed_hands = mesh.observer.wait(
                lambda: mesh.observer.holder(role) != heir, kind.watched
            )
        taken = "" if record.takeover is None else f", taken over after {record.takeover:.2f} s"
        self._say(f"{name} ({target}): whole after {record.whole - record.undone:.2f} s{taken}")

    def _wait_for_standby(self, topic: str) -> float:
        """Seconds until another node could take the role over: one that was killed before may still start."""
        began = time.monotonic()
        if not self._mesh.observer.wait(lambda: self._mesh.has_standby(topic), _STANDBY_SECONDS):
            raise NotMeasurableError(f"nobody stands by for the role of {topic}\n{self._mesh.log_ends()}")
        return time.monotonic() - began

    def _takeover(self, topic: str, before: int, at: float) -> float:
        observer = self._mesh.observer
        if not observer.wait(lambda: observer.holder(topic)[1] > before, _TAKEOVER_SECONDS):
            raise NotMeasurableError(f"nobody took the role of {topic} over\n{self._mesh.log_ends()}")
        return observer.said(topic)[1] - at

    def _is_whole(self, record: FaultRecord) -> bool:
        return self._mesh.is_whole() and not self._unanswered(record)

    def _unanswered(self, record: FaultRecord) -> list[str]:
        """Streams without a right answer to a job that began after the fault was taken back."""
        assert record.undone is not None
        with self._records.lock:
            recent = self._records.jobs[-100:]
        answered = {job.stream for job in recent if job.right and job.began >= record.undone}
        return [stream for stream in self._streams if stream not in answered]


def _healed(missing: Sequence[str]) -> str:
    return "is all but " + ", ".join(missing) if missing else "is everything"
