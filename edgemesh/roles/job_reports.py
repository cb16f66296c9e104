"""Job reports: what a requester tells the decision node of the jobs that ended, within bounds."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from edgemesh.protocol.link import MORE_JOBS, JobReport
from edgemesh.roles.actions import JobEnded

LISTED: Final = 8
"""Jobs of one report that are listed; the others are counted."""
_RECEIPTS: Final = 256
"""Jobs under way whose first receipt is remembered."""


class JobReports:
    """Of one requester; ``take`` empties it."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._arrived: OrderedDict[str, float] = OrderedDict()
        self._jobs: list[JobReport] = []
        self._more = 0

    def __len__(self) -> int:
        return len(self._jobs) + self._more

    def arrived(self, job: str, seconds: float) -> None:
        """The first device of the job's route has had its input ``seconds`` after it was sent."""
        self._arrived[job] = seconds
        if len(self._arrived) > _RECEIPTS:
            self._arrived.popitem(last=False)

    def add(self, ended: JobEnded) -> None:
        """A job ended."""
        arrived = self._arrived.pop(ended.job, None)
        if len(self._jobs) >= LISTED or not ended.digest:
            self._more += 1
            return
        report = JobReport(
            ended.model,
            ended.digest,
            self._origin,
            *ended.epoch,
            ended.seconds,
            max(1, ended.attempts),
            ended.timings,
            arrived,
            ended.code,
        )
        self._jobs.append(report)

    def take(self) -> tuple[tuple[JobReport, ...], int]:
        """Jobs since the last call, and how many more."""
        jobs, more = tuple(self._jobs), min(self._more, MORE_JOBS)
        self._jobs, self._more = [], 0
        return jobs, more
