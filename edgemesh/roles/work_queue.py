"""What a worker has not begun: activations by arrival, each with what it is predicted to take."""

from __future__ import annotations

from collections import deque
from math import inf

from edgemesh.protocol.activation import Activation, Hop

Partition = tuple[str, int, int]
"""Digest, start and stop."""


class Task:
    """One activation; what every step asks of its route is worked out once."""

    __slots__ = ("ahead", "arrived", "deadline", "header", "hop", "partition", "predicted", "run", "section")

    def __init__(self, header: Activation, section: bytes | memoryview, arrived: float, run: str) -> None:
        self.header = header
        self.section = section
        self.arrived = arrived
        self.deadline = arrived + header.left
        self.run = run
        self.hop: Hop = header.route[header.hop_index]
        self.partition: Partition = (header.digest, header.position, self.hop.stop)
        self.predicted = 0.0
        """Seconds, as they were predicted when it began to wait."""
        self.ahead = False
        """Whether the executor has it already, though another one runs."""

    @property
    def is_last(self) -> bool:
        """Whether this is the last partition of the route."""
        return self.hop.stop == self.header.route[-1].stop


class WorkQueue:
    """The first of them may have gone ahead to the executor; it has its turn all the same."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self.seconds = 0.0
        """Of all that waits, each task as it was predicted when it came."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self._tasks)

    @property
    def first(self) -> Task:
        """Whose turn is next; raises IndexError where nothing waits."""
        return self._tasks[0]

    def add(self, task: Task) -> None:
        """It waits from now on."""
        self._tasks.append(task)
        self.seconds += task.predicted

    def remove(self, task: Task) -> None:
        """It waits no longer."""
        self._tasks.remove(task)
        # Exactly nothing when nobody waits: a sum of differences would drift.
        self.seconds = max(0.0, self.seconds - task.predicted) if self._tasks else 0.0

    def older_frames(self, header: Activation) -> list[Task]:
        """Those of the same stream of a model, at the same cut.

        A frame sent again may be the older one: it replaces none. Nor does one whose route comes back to this
        device: it began before those that wait for their first units.
        """
        if header.stream is None or header.attempt > 0:
            return []
        return [
            task
            for task in self._tasks
            if task.header.stream == header.stream
            and task.header.model == header.model
            and task.header.requester == header.requester
            and task.header.job != header.job
            and task.header.position == header.position
        ]

    def late(self, now: float) -> list[Task]:
        """Those whose deadline has passed; what went ahead is answered when it has run."""
        return [task for task in self._tasks if now >= task.deadline and not task.ahead]

    def earliest_deadline(self) -> float:
        """Of what may have to be answered at it; infinite where there is none."""
        return min((task.deadline for task in self._tasks if not task.ahead), default=inf)
