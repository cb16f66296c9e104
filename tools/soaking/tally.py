"""What became of each job of a run."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

RIGHT = "answered"
"""What a job ends in that is not an error code."""


@dataclass(slots=True)
class Job:
    """One job; times are seconds of ``time.monotonic``."""

    program: str
    began: float
    ended: float | None = None
    end: str | None = None
    """``answered`` or the code of its error; None until then."""
    ends: int = 0

    @property
    def seconds(self) -> float:
        """From submission to its end; infinite for one without."""
        return float("inf") if self.ended is None else self.ended - self.began


class Tally:
    """Counts jobs that begin and end on any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: Counter[str] = Counter()
        self.most_open: Counter[str] = Counter()
        """By program, the most jobs that were open at once."""

    def begin(self, program: str, now: float) -> Job:
        """A job is submitted."""
        with self._changed:
            self._open[program] += 1
            self.most_open[program] = max(self.most_open[program], self._open[program])
        return Job(program, now)

    def end(self, job: Job, end: str, now: float) -> None:
        """It ended in ``end``; a second time is counted and changes nothing else."""
        with self._changed:
            job.ends += 1
            if job.ends > 1:
                return
            job.ended, job.end = now, end
            self._open[job.program] -= 1
            self._changed.notify_all()

    @property
    def open(self) -> int:
        """Jobs without an end."""
        return self._open.total()

    def wait_below(self, limit: int, seconds: float) -> bool:
        """Until fewer than ``limit`` jobs are open; whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self.open < limit, seconds)


def ends(jobs: Iterable[Job]) -> Counter[str]:
    """How many jobs ended in what; ``nothing`` for those that did not."""
    return Counter(job.end or "nothing" for job in jobs)
