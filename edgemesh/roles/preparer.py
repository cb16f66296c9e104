"""Preparer: loads and warms every partition that a published assignment gives this device."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.presence import ReadyPartition
from edgemesh.roles.actions import Action, LoadUnits, Log, SetTimer, UnloadUnits
from edgemesh.roles.events import Event, ExecutorLost, RangeLoaded, RangeRefused, TimerFired

_KEEP_SECONDS = 20.0
"""A partition no longer assigned stays loaded this long: jobs under way still carry the old route."""
_LOSSES = 3
"""Times that the executor may die while it loads a partition before that one is blamed."""


class Preparer:
    """Keeps what is loaded equal to what is assigned; ``ready`` goes into the heartbeat."""

    def __init__(self, device: str) -> None:
        self.ready: set[ReadyPartition] = set()
        self._device = device
        self._wanted: set[ReadyPartition] = set()
        self._loading: set[ReadyPartition] = set()
        self._refused: set[ReadyPartition] = set()
        self._leaving: set[ReadyPartition] = set()
        self._losses: dict[ReadyPartition, int] = {}

    def reconsider(
        self, assignments: Iterable[Assignment], held: Collection[str], now: float
    ) -> list[Action]:
        """What to load after assignments or content changed."""
        wanted = {p for a in assignments for p in self._partitions(a) if p.digest in held}
        self._refused &= wanted
        self._losses = {p: losses for p, losses in self._losses.items() if p in wanted}
        self._wanted = wanted
        gone = self.ready - wanted - self._leaving
        return [*(self._leave(partition, now) for partition in sorted(gone, key=_order)), *self._load()]

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to what the executor says and to partitions that may go."""
        if isinstance(event, RangeLoaded):
            partition = ReadyPartition(event.digest, event.start, event.stop)
            self._loading.discard(partition)
            self._losses.pop(partition, None)
            self.ready.add(partition)
            return [] if partition in self._wanted else [self._leave(partition, now)]
        elif isinstance(event, RangeRefused):
            return self._range_refused(event)
        elif isinstance(event, ExecutorLost):
            return self._lost(event)
        elif isinstance(event, TimerFired) and event.name.startswith("unload:"):
            _, digest, start, stop = event.name.split(":")
            partition = ReadyPartition(digest, int(start), int(stop))
            self._leaving.discard(partition)
            if partition not in self._wanted and partition in self.ready:
                self.ready.discard(partition)
                return [UnloadUnits(partition.digest, partition.start, partition.stop)]
        return []

    def _load(self) -> list[Action]:
        todo = self._wanted - self.ready - self._loading - self._refused
        self._loading |= todo
        return [LoadUnits(p.digest, p.start, p.stop) for p in sorted(todo, key=_order)]

    def _leave(self, partition: ReadyPartition, now: float) -> SetTimer:
        self._leaving.add(partition)
        return SetTimer(f"unload:{partition.digest}:{partition.start}:{partition.stop}", now + _KEEP_SECONDS)

    def _lost(self, event: ExecutorLost) -> list[Action]:
        """Load everything anew, but not for ever what the executor dies of."""
        logs: list[Action] = []
        for partition in sorted(self._loading, key=_order):
            losses = self._losses[partition] = self._losses.get(partition, 0) + 1
            if losses >= _LOSSES and partition in self._wanted:
                self._refused.add(partition)
                text = f"units {partition.start} to {partition.stop} are not loaded any more: {event.text}"
                logs.append(Log("error", text, partition.digest))
        self.ready.clear()
        self._loading.clear()
        return [*logs, *self._load()]

    def _range_refused(self, event: RangeRefused) -> list[Action]:
        partition = ReadyPartition(event.digest, event.start, event.stop)
        if partition not in self._loading:
            return []
        self._loading.discard(partition)
        self._refused.add(partition)
        text = f"cannot load units {event.start} to {event.stop}: {event.text}"
        return [Log("error", text, event.digest)]

    def _partitions(self, assignment: Assignment) -> list[ReadyPartition]:
        partitions, start = [], 0
        for hop in assignment.route:
            if hop.device == self._device:
                partitions.append(ReadyPartition(assignment.digest, start, hop.stop))
            start = hop.stop
        return partitions


def _order(partition: ReadyPartition) -> tuple[str, int, int]:
    return partition.digest, partition.start, partition.stop
