"""Both halves in the requester's process, one after the other: no link at all."""

from __future__ import annotations

from benchmarks.peer_programs.place import FIRST, SECOND, Arrays, Place


class Requester:
    """The whole model here."""

    def __init__(self, place: Place) -> None:
        self._inputs = place.inputs()
        self._first, self._second = place.half(FIRST), place.half(SECOND)

    def once(self) -> Arrays:
        """One job."""
        return self._second(self._first(self._inputs))

    def stream(self, count: int, window: int) -> None:
        """One after the other: one process on one thread has nothing to overlap."""
        for _ in range(count):
            self.once()
