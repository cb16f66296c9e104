"""What a format's reader finds out about a model: its units and the boundary at every cut."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.protocol.manifest import Boundary, Unit


@dataclass(frozen=True)
class ModelStructure:
    """Units in execution order and ``len(units) + 1`` boundaries.

    Unit ``i`` holds the ``units[i].operators`` operators that follow those of unit ``i - 1`` in the linear
    order of the content, so a manifest pins the units even when a later release would choose others.
    """

    units: tuple[Unit, ...]
    boundaries: tuple[Boundary, ...]

    def operator_range(self, start: int, stop: int) -> tuple[int, int]:
        """Operators ``[first, last)`` of the units ``[start, stop)``."""
        counts = [unit.operators for unit in self.units]
        first = sum(counts[:start])
        return first, first + sum(counts[start:stop])
