"""Stall watch: notices an executor that is at one thing and does nothing.

A library that waits for a lock, or for an accelerator that is gone, neither ends nor fails. Its process takes
no processor time then, which long runs, loads from a slow card and swapping all do. What spins for ever is
not noticed: nothing tells it from a long run.
"""

from __future__ import annotations

from typing import Final

from edgemesh.device.procfs import ProcessLook

LOOK_SECONDS: Final = 4.0
STALL_SECONDS: Final = 20.0
"""Short enough that three in a row, with the restarts between, are within the minute of the crash bench."""
_EXCUSED: Final = frozenset("RDt")
"""States of a process: it wants a processor, waits for a disk, or a debugger holds it."""


class StallWatch:
    """Looks that found no progress are counted, not seconds: an agent that was itself stopped saw nothing."""

    def __init__(self, look_seconds: float = LOOK_SECONDS, stall_seconds: float = STALL_SECONDS) -> None:
        self.look_seconds = look_seconds
        """Between two looks."""
        self._stall_seconds = stall_seconds
        self._task: object = None
        self._ticks = -1
        self._looks = 0

    def stalls(self, task: object, look: ProcessLook | None, sleeps: float = 0.0) -> bool:
        """Whether the process has done nothing for too long; to be asked every ``look_seconds``.

        ``task`` is what it is at, None where it is idle; ``sleeps`` the seconds of it that it may sleep
        through, and ``look`` None where the system does not tell.
        """
        moved = look is None or look.ticks != self._ticks or look.state in _EXCUSED
        if task is None or task is not self._task or moved:
            self._task, self._ticks, self._looks = task, look.ticks if look is not None else -1, 0
            return False
        self._looks += 1
        return self._looks * self.look_seconds >= self._stall_seconds + sleeps
