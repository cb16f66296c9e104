"""Claims and figures from the records of a run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.report import Report

from outages.faults import (
    DECISION_KILLED,
    DECISION_REPLACED,
    GATEWAY_KILLED,
    GATEWAY_REPLACED,
    KILLED,
    KINDS,
    PAUSED,
    WIPED,
)
from outages.mesh import ORIGIN
from outages.records import FaultRecord, Job, Records
from outages.streams import PLAIN_DEADLINE, PlainApp

LANE, APP = "local lane", "client library"
_NEAR = 0.5
"""Seconds around a fault that are not called calm."""
_COMES_AGAIN = 2.0
"""Seconds after the mesh is whole in which a submission may end that came again out of an older store: the
gateway got it before any other, but it may be answered by a slower device."""


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that at least ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Findings:
    """What the records of a run say."""

    def __init__(self, records: Records, ended: float) -> None:
        """``ended`` is when the run stopped to wait for answers."""
        self._records = records
        self._ended = ended
        self.normal = {stream: self._calm_median(stream) for stream in (APP, LANE, PlainApp.name)}
        """Median seconds of a stream's jobs that met no fault."""

    def lost(self, job: Job) -> bool:
        """Whether it ended in an error, or in nothing by its deadline."""
        return job.right is None

    def excused(self, job: Job) -> bool:
        """Whether a plain app's submission met a broker that forgot what it had acknowledged."""
        until = job.ended if job.ended is not None else job.began + PLAIN_DEADLINE
        return job.stream == PlainApp.name and any(
            fault.lost_store and job.began <= (fault.whole or self._ended) and until >= fault.at
            for fault in self._records.faults
        )

    def duplicates(self, job: Job) -> int:
        """Results after the first one, unless a broker with an older store explains them, or an app that
        submitted more than once."""
        return max(0, self._repeated(job) - job.resubmitted)

    def of_submissions_sent_again(self, job: Job) -> int:
        """Results that an app has more of as its MQTT library submitted again."""
        return self._repeated(job) - self.duplicates(job)

    def excused_duplicates(self, job: Job) -> int:
        """The others: a broker that goes back in time hands submissions on again that had been answered, and
        with them an equally old record of what was answered."""
        return len(job.again) - self._repeated(job)

    def _repeated(self, job: Job) -> int:
        return 0 if self.excused(job) else len(job.again) - self._out_of_an_older_store(job)

    def _out_of_an_older_store(self, job: Job) -> int:
        spans = [
            (fault.at, (fault.whole or self._ended) + _COMES_AGAIN)
            for fault in self._records.faults
            if fault.lost_store
        ]
        return sum(any(start <= at <= stop for start, stop in spans) for at in job.again)

    def late(self, fault: FaultRecord, jobs: Iterable[Job]) -> list[float]:
        """Seconds beyond their stream's normal time of those ``jobs`` that met the fault."""
        until = fault.undone if KINDS[fault.kind].lasts and fault.undone is not None else fault.at
        return [
            job.seconds - self.normal[job.stream]
            for job in jobs
            if job.seconds is not None and job.overlaps(fault.at, until)
        ]

    def faults(self, kind: str) -> list[FaultRecord]:
        """Faults of one kind."""
        return [fault for fault in self._records.faults if fault.kind == kind]

    def hit(self, fault: FaultRecord) -> list[Job]:
        """Jobs of the client library that were sent again, or waited for the device of the fault. One whose
        own agent died is not among them: who had custody of it is the one that was killed."""
        return [
            job
            for job in self._records.jobs
            if job.stream in (APP, LANE)
            and (job.attempts > 1 or fault.target in job.devices)
            and not (job.stream == LANE and fault.target == ORIGIN)
        ]

    def _calm_median(self, stream: str) -> float:
        calm = [
            job.seconds
            for job in self._records.jobs
            if job.stream == stream
            and job.seconds is not None
            and not any(
                job.overlaps(fault.at - _NEAR, (fault.whole or self._ended) + _NEAR)
                for fault in self._records.faults
            )
        ]
        return median(calm) if calm else 0.0


def told(records: Records, found: Findings, began: float) -> list[str]:
    """A line for each job that is not as promised, and for the latest one of each kind of fault."""
    lines = []
    for job in records.jobs:
        lost = found.lost(job) and not found.excused(job)
        if lost or job.right is False or found.duplicates(job):
            what = "lost" if lost else "wrong" if job.right is False else "duplicated"
            lines.append(f"{job.began - began:7.1f} s  {what}: {_described(job)}{_results(job, began)}")
    lines += [f"wrong result to the plain app: {text}" for text in records.stray]
    lines += [f"error result to the plain app: {text}" for text in records.errors]
    for kind in KINDS:
        late = [
            (job.seconds - found.normal[job.stream], fault, job)
            for fault in found.faults(kind)
            for job in records.jobs
            if job.seconds is not None and not found.excused(job) and found.late(fault, [job])
        ]
        if late:
            seconds, fault, job = max(late, key=lambda entry: entry[0])
            what = f"latest by {kind} ({fault.target}), {seconds:.2f} s"
            lines.append(f"{job.began - began:7.1f} s  {what}: {_described(job)}")
    return lines


def _described(job: Job) -> str:
    over = f" over {', '.join(job.devices)}" if job.devices else ""
    error = f": {job.error}" if job.error else ""
    return f"job {job.number} of the {job.stream}, sent {job.attempts} times{over}{error}"


def _results(job: Job, began: float) -> str:
    """When each of several results came, and under which job id."""
    if not job.again or job.ended is None:
        return ""
    moments = (f"{at - began:.2f} s" for at in (job.ended, *job.again))
    return "; results " + ", ".join(f"{name} at {at}" for name, at in zip(job.told_as, moments))


def report_on(records: Records, ended: float, report: Report) -> None:
    """Add the claims and figures of a run."""
    found = Findings(records, ended)
    _counts(records, found, report)
    _lateness(records, found, report)
    _takeovers(found, report)


def _counts(records: Records, found: Findings, report: Report) -> None:
    client = [job for job in records.jobs if job.stream != PlainApp.name]
    plain = [job for job in records.jobs if job.stream == PlainApp.name]
    excused = [job for job in plain if found.excused(job)]
    counted = [job for job in plain if not found.excused(job)]
    for name, jobs in (("client library", client), ("plain app", counted)):
        report.figure(f"{name}: jobs", len(jobs))
        report.claim(f"{name}: lost", sum(map(found.lost, jobs)), 0, "")
    # The client library hands a result to the one call that waits for it: nothing could be seen twice there.
    report.claim("plain app: duplicated", sum(map(found.duplicates, plain)), 0, "")
    report.claim("client library: wrong", sum(job.right is False for job in client), 0, "")
    report.claim("plain app: wrong", len(records.stray), 0, "")
    report.figure(
        "client library: handed back at once as the agent itself died", sum(j.handed_back for j in client)
    )
    report.figure("plain app: jobs that met a broker without its store", len(excused))
    report.figure("plain app: of those, lost", sum(map(found.lost, excused)))
    report.figure(
        "plain app: results that came twice as the broker came back with an older store",
        sum(map(found.excused_duplicates, plain)),
    )
    report.figure(
        "plain app: results that came twice as its MQTT library submitted again",
        sum(map(found.of_submissions_sent_again, plain)),
    )
    report.figure("plain app: error results", len(records.errors))
    report.figure("plain app: results that came again under the same job id", records.redelivered)
    for stream, seconds in found.normal.items():
        report.figure(f"{stream}: normal time, p50 ms", seconds * 1e3)


def _lateness(records: Records, found: Findings, report: Report) -> None:
    by_kind: dict[str, list[float]] = defaultdict(list)
    for fault in records.faults:
        others = [j for j in records.jobs if not (j.stream == LANE and fault.target == ORIGIN)]
        if fault.lost_store:
            others = [job for job in others if job.stream != PlainApp.name]
        by_kind[fault.kind] += [max(0.0, late) for late in found.late(fault, others)]
    for kind, values in sorted(by_kind.items()):
        if values:
            for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)):
                report.figure(
                    f"late by, {kind} ({len(values)} jobs), {name} ms", quantile(values, share) * 1e3
                )
    for kind, allowed, text in (
        (KILLED, 0.0, "result after SIGKILL of its device, beyond its normal time, p95"),
        (PAUSED, 2.0, "result after SIGSTOP of its device, beyond normal time + 2 x predicted, p95"),
    ):
        late = [
            job.seconds - found.normal[job.stream] - allowed * (job.predicted or 0.0)
            for fault in found.faults(kind)
            for job in found.hit(fault)
            if job.seconds is not None and found.late(fault, [job])
        ]
        if late:
            report.claim(f"{text} of {len(late)}", max(0.0, quantile(late, 0.95)) * 1e3, 500, "ms")
        else:
            report.claim_nothing(text, 500, "no such job")


def _takeovers(found: Findings, report: Report) -> None:
    for kind, limit in ((DECISION_KILLED, 5.0), (GATEWAY_KILLED, 3.0)):
        taken = [fault.takeover for fault in found.faults(kind) if fault.takeover is not None]
        if taken:
            report.claim(f"{kind}: taken over, the longest of {len(taken)}", max(taken), limit, "s")
            waited = [fault.standby for fault in found.faults(kind) if fault.standby is not None]
            report.figure(f"{kind}: waited for a standby first, the longest s", max(waited, default=0.0))
        else:
            report.claim_nothing(f"{kind}: taken over", limit, "no such fault")
    for kind in (DECISION_REPLACED, GATEWAY_REPLACED):
        text = f"{kind}: roles that changed hands once it went on"
        if paused := found.faults(kind):
            report.claim(f"{text}, of {len(paused)}", sum(f.changed_hands for f in paused), 0, "")
            report.figure(f"{kind}: replaced after, the longest s", max(f.takeover or 0.0 for f in paused))
        else:
            report.claim_nothing(text, 0, "no such fault")
    healed = [f.whole - f.undone for f in found.faults(WIPED) if f.whole is not None and f.undone is not None]
    if healed:
        text = f"mesh whole after the broker came back empty, the longest of {len(healed)}"
        report.claim(text, max(healed), 10.0, "s")
        missing = sorted({topic for fault in found.faults(WIPED) for topic in fault.missing})
        text = "retained topics still missing 10 s after" + (f": {', '.join(missing)}" if missing else "")
        report.claim(text, len(missing), 0, "")
    else:
        report.claim_nothing("mesh whole after the broker came back empty", 10.0, "no such fault")
