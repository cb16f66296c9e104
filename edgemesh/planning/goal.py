"""What a plan is wanted for: one objective with its bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

OBJECTIVE_NAMES: Final = ("bounded-energy", "latency", "energy", "throughput", "money")
BOUNDED: Final = frozenset({"bounded-energy", "money"})
"""Objectives that hold a latency bound; the others minimise without one."""


@dataclass(frozen=True)
class Goal:
    """What to minimise, and within which latency."""

    objective: str = "bounded-energy"
    """One of ``OBJECTIVE_NAMES``."""
    bound_factor: float = 1.25
    """The bound as a multiple of the best latency; at least 1."""
    bound_seconds: float | None = None
    """The deadline of a job; replaces the factor."""
    in_flight: int = 1
    """Streams that pass through the plan: one job of each loads a device or a link so many times."""

    def __post_init__(self) -> None:
        assert self.objective in OBJECTIVE_NAMES, self.objective
        assert 1.0 <= self.bound_factor < math.inf, self.bound_factor
        assert self.bound_seconds is None or 0.0 < self.bound_seconds < math.inf, self.bound_seconds
        assert self.in_flight >= 1, self.in_flight

    @property
    def bounded(self) -> bool:
        """Whether the objective holds a latency bound."""
        return self.objective in BOUNDED

    def bound(self, best: float) -> float | None:
        """The latency bound in seconds where the best latency is ``best``; None when none applies."""
        if not self.bounded:
            return None
        return self.bound_factor * best if self.bound_seconds is None else self.bound_seconds
