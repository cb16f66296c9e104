"""Preparer: loads and warms every partition that a published assignment gives this device."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.presence import ReadyPartition
from edgemesh.roles.actions import Action, LoadUnits, Log, SetTimer, UnloadUnits
from edgemesh.roles.events import Event, ExecutorLost, RangeLoaded, RangeRefused, TimerFired
from edgemesh.roles.growing_pauses import GrowingPauses

_KEEP_SECONDS = 20.0
"""A partition no longer assigned stays loaded this long: jobs under way still carry the old route."""
_LOSSES = 3
"""Times that the executor may die while it loads a partition before that one is blamed."""
_PAUSE_SECONDS = 10.0
"""Until a refused partition is tried again: what was short, memory most likely, may be there then."""
_LONGEST_PAUSE = 600.0


class Preparer:
    """Keeps what is loaded equal to what is assigned; ``ready`` goes into the heartbeat."""

    def __init__(self, device: str) -> None:
        self.ready: set[ReadyPartition] = set()
        self._device = device
        self._wanted: set[ReadyPartition] = set()
        self._loading: set[ReadyPartition] = set()
        self._refused: set[ReadyPartition] = set()
        """Not to be loaded now; a refusal ends after its pause, blame for the executor's death does not."""
        self._refusals = GrowingPauses[ReadyPartition](_PAUSE_SECONDS, _LONGEST_PAUSE)
        """Of each wanted partition that has not been loaded since."""
        self._leaving: set[ReadyPartition] = set()
        self._losses: dict[ReadyPartition, int] = {}

    def reconsider(
        self, assignments: Iterable[Assignment], held: Collection[str], now: float
    ) -> list[Action]:
        """What to load after assignments or content changed."""
        wanted = {
            partition
            for assignment in assignments
            for device, partition in assignment.partitions
            if device == self._device and partition.digest in held
        }
        self._refused &= wanted
        self._refusals.keep(wanted)
        self._losses = {p: losses for p, losses in self._losses.items() if p in wanted}
        self._wanted = wanted
        # With content that goes, the executor closes all that it has loaded of it, or is about to load.
        self.ready = {p for p in self.ready if p.digest in held}
        self._loading = {p for p in self._loading if p.digest in held}
        gone = self.ready - wanted - self._leaving
        return [*(self._leave(partition, now) for partition in sorted(gone, key=_order)), *self._load()]

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to what the executor says and to partitions that may go."""
        if isinstance(event, RangeLoaded):
            partition = ReadyPartition(event.digest, event.start, event.stop)
            if partition not in self._loading:
                return []
            self._loading.discard(partition)
            self._losses.pop(partition, None)
            self._refusals.forget(partition)
            self.ready.add(partition)
            return [] if partition in self._wanted else [self._leave(partition, now)]
        elif isinstance(event, RangeRefused):
            return self._range_refused(event, now)
        elif isinstance(event, ExecutorLost):
            return self._lost(event)
        elif isinstance(event, TimerFired) and event.name.startswith("unload:"):
            partition = _partition_of(event)
            self._leaving.discard(partition)
            if partition not in self._wanted and partition in self.ready:
                self.ready.discard(partition)
                return [UnloadUnits(partition.digest, partition.start, partition.stop)]
        elif isinstance(event, TimerFired) and event.name.startswith("load:"):
            partition = _partition_of(event)
            if partition in self._refusals:
                self._refused.discard(partition)
                return self._load()
        return []

    def _load(self) -> list[Action]:
        todo = self._wanted - self.ready - self._loading - self._refused
        self._loading |= todo
        return [LoadUnits(p.digest, p.start, p.stop) for p in sorted(todo, key=_order)]

    def _leave(self, partition: ReadyPartition, now: float) -> SetTimer:
        self._leaving.add(partition)
        return SetTimer(_timer("unload", partition), now + _KEEP_SECONDS)

    def _lost(self, event: ExecutorLost) -> list[Action]:
        """Load everything anew, but not for ever what the executor dies of."""
        logs: list[Action] = []
        for partition in sorted(self._loading, key=_order):
            if event.digest not in (None, partition.digest):
                continue  # it died of other content
            losses = self._losses[partition] = self._losses.get(partition, 0) + 1
            if losses >= _LOSSES and partition in self._wanted:
                self._refused.add(partition)
                text = f"units {partition.start} to {partition.stop} are not loaded any more: {event.text}"
                logs.append(Log("error", text, partition.digest))
        self.ready.clear()
        self._loading.clear()
        return [*logs, *self._load()]

    def _range_refused(self, event: RangeRefused, now: float) -> list[Action]:
        partition = ReadyPartition(event.digest, event.start, event.stop)
        if partition not in self._loading:
            return []
        self._loading.discard(partition)
        if partition not in self._wanted:
            return []
        self._refused.add(partition)
        pause, is_news = self._refusals.refused(partition, event.text)
        again = SetTimer(_timer("load", partition), now + pause)
        if not is_news:
            return [again]
        text = f"cannot load units {event.start} to {event.stop}: {event.text}; tried again ever more seldom"
        return [Log("error", text, event.digest), again]


def _order(partition: ReadyPartition) -> tuple[str, int, int]:
    return partition.digest, partition.start, partition.stop


def _timer(what: str, partition: ReadyPartition) -> str:
    return f"{what}:{partition.digest}:{partition.start}:{partition.stop}"


def _partition_of(event: TimerFired) -> ReadyPartition:
    _, digest, start, stop = event.name.split(":")
    return ReadyPartition(digest, int(start), int(stop))
