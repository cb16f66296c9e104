"""Benches: a model that kills executors is left out by a device for a while, and not for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgemesh.roles.crash_bench import FIRST_BENCH_SECONDS, LONGEST_BENCH_SECONDS, CrashBench
from edgemesh.simulation.faults.world import World

_LATE_SECONDS = 2.0
"""Until somebody looks."""


@dataclass
class _Seen:
    """What was seen of one content in one life of a device."""

    since: float | None = None
    """When it was benched; None while it is not."""
    times: int = 0


class Benches:
    """Looks at each device's bench between two events."""

    def __init__(self, world: World, broken: Callable[[str, str, str], None]) -> None:
        self.last_at = 0.0
        """When a device was seen last that left out a model."""
        self._world = world
        self._broken = broken
        self._seen: dict[tuple[CrashBench, str], _Seen] = {}
        self._stopped_at: dict[str, float] = {}
        """When each device was seen last whose process stood still: its timers fall due afterwards."""

    def look(self) -> None:
        """See who is benched, and whether it has been for too long."""
        now = self._world.mesh.clock.now
        for name, node in self._world.mesh.devices.items():
            bench = node.role.crash_bench
            if node.shell.paused:
                self._stopped_at[name] = now
            if bench.benched:
                self.last_at = now
            for (of, digest), seen in self._seen.items():
                if of is bench and digest not in bench.benched:
                    seen.since = None
            for digest in bench.benched:
                seen = self._seen.setdefault((bench, digest), _Seen())
                if seen.since is None:
                    seen.since, seen.times = now, seen.times + 1
                longest = min(FIRST_BENCH_SECONDS * 2 ** (seen.times - 1), LONGEST_BENCH_SECONDS)
                due = max(seen.since + longest, self._stopped_at.get(name, 0.0))
                if node.shell.alive and now > due + _LATE_SECONDS:
                    text = f"{name} leaves a model out for {now - seen.since:.0f} s"
                    self._broken("a bench ends", text, name)
