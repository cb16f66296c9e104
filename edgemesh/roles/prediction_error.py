"""Predicted against measured, per assignment, from the jobs that requesters report."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import NamedTuple

from edgemesh.protocol.activation import Timing
from edgemesh.protocol.assignment import Assignment, HopPrediction
from edgemesh.protocol.link import JobReport
from edgemesh.protocol.outcome import HopOutcome, Outcome

COMPARED_JOBS = 100
"""The last ones, whose error is averaged."""
_EPOCHS = 8
"""Assignments of one (model, origin) that jobs may still come home under."""
_KEYS = 4096


class _Compared(NamedTuple):
    """A job that took its assignment's own route at the first attempt."""

    epoch: tuple[int, int]
    predicted: float
    report: JobReport


@dataclass
class _Count:
    jobs: int = 0
    failed: int = 0
    retried: int = 0


class _History:
    """One (model, origin)."""

    def __init__(self) -> None:
        self.assignments: OrderedDict[tuple[int, int], Assignment] = OrderedDict()
        self.counts: dict[tuple[int, int], _Count] = {}
        self.compared: deque[_Compared] = deque(maxlen=COMPARED_JOBS)

    def assigned(self, assignment: Assignment) -> None:
        self.assignments[assignment.epoch] = assignment
        self.counts.setdefault(assignment.epoch, _Count())
        while len(self.assignments) > _EPOCHS:
            epoch, _ = self.assignments.popitem(last=False)
            del self.counts[epoch]

    def observe(self, report: JobReport) -> None:
        assignment = self.assignments.get(report.epoch)
        if assignment is None:
            return
        count = self.counts[report.epoch]
        count.jobs += 1
        count.failed += report.code is not None
        count.retried += report.attempts > 1
        if report.code is None and report.attempts == 1 and took_own_route(report, assignment):
            self.compared.append(_Compared(report.epoch, assignment.seconds, report))

    def outcome(self) -> Outcome:
        epoch, assignment = next(reversed(self.assignments.items()))
        count = self.counts[epoch]
        reports = [compared.report for compared in self.compared if compared.epoch == epoch]
        return Outcome(
            assignment.model,
            assignment.origin,
            *epoch,
            count.jobs,
            count.failed,
            count.retried,
            assignment.seconds,
            median(report.seconds for report in reports) if reports else None,
            self.mape(),
            len(self.compared),
            tuple(
                _hop_outcome(hop, [report.timings[index] for report in reports])
                for index, hop in enumerate(assignment.hops)
            )
            if reports
            else (),
            sum(hop.transfer for hop in assignment.hops) + assignment.return_seconds,
            median(report.transfer for report in reports) if reports else None,
        )

    def mape(self) -> float | None:
        # Each against what was promised when it ran: a later plan is not to blame for an earlier one.
        errors = [abs(c.report.seconds - c.predicted) / max(c.report.seconds, 1e-6) for c in self.compared]
        return mean(errors) if errors else None


class PredictionErrors:
    """Tell it of assignments and of jobs, ask it how well the promises were kept."""

    def __init__(self) -> None:
        self._histories: OrderedDict[tuple[str, str], _History] = OrderedDict()

    def assigned(self, assignment: Assignment) -> None:
        """An assignment was published."""
        key = assignment.model, assignment.origin
        self._histories.setdefault(key, _History()).assigned(assignment)
        if len(self._histories) > _KEYS:
            self._histories.popitem(last=False)

    def observe(self, report: JobReport) -> None:
        """A job ended; one under an assignment that is not known (any more) is passed over."""
        history = self._histories.get((report.model, report.origin))
        if history is not None:
            history.observe(report)

    def assignment_of(self, report: JobReport) -> Assignment | None:
        """The assignment that the job ran under, while it is known."""
        history = self._histories.get((report.model, report.origin))
        return history.assignments.get(report.epoch) if history is not None else None

    def outcome(self, model: str, origin: str) -> Outcome | None:
        """Of the newest assignment; None where none was told of."""
        history = self._histories.get((model, origin))
        return history.outcome() if history is not None else None

    def forget(self, model: str, origin: str) -> None:
        """Nothing is assigned there any more."""
        self._histories.pop((model, origin), None)


def took_own_route(report: JobReport, assignment: Assignment) -> bool:
    """Whether the job ran on the assignment's own partitions, and on no fallback of it."""
    ran = [(timing.device, timing.start, timing.stop) for timing in report.timings]
    return ran == [(hop.device, hop.start, hop.stop) for hop in assignment.hops]


def _hop_outcome(hop: HopPrediction, timings: Sequence[Timing]) -> HopOutcome:
    return HopOutcome(
        hop.device,
        hop.start,
        hop.stop,
        hop.run,
        median(timing.run for timing in timings),
        hop.queue,
        median(timing.queue for timing in timings),
    )
