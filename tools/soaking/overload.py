"""Three times what the mesh can do, for a minute: what becomes of jobs, queues, memory, and what after."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.models import zoo_model
from benchmarks.report import NotMeasurableError, Report
from outages.answers import questions
from outages.findings import quantile
from outages.guard import Guard
from outages.mesh import NAME, SECONDS_OF_MODEL

from edgemesh.runtime.payloads import input_tensors
from soaking.mesh import LoadedMesh
from soaking.programs import ClientProgram, PlainProgram
from soaking.tally import RIGHT, Job, Tally, ends
from soaking.usage import rise

DEADLINE = 2
"""Seconds of every job."""
_TIMES = 3.0
"""Offered load, in capacities."""
_NORMAL_SHARE = 0.3
_WINDOW = 48
"""Jobs under way while capacity is measured: more than wait at one device until the deadline."""
_END_LATE = 0.5
"""Seconds that the end of a job may reach its program after the deadline."""
_SETTLE_SECONDS = 3.0
_AT_ONCE_MS = 500.0
_QUEUE_SHARE = 0.75
"""Of the time left to its deadline, by which a device must see a job done to take it (docs/guarantees.md)."""
_GOOD_SECONDS = 3
"""In a row, before what was normal counts as normal again: a single one may be luck."""


@dataclass(frozen=True)
class Lengths:
    """Seconds of each phase."""

    capacity: float
    normal: float
    overload: float
    after: float


FULL, QUICK = Lengths(15.0, 15.0, 60.0, 15.0), Lengths(8.0, 5.0, 8.0, 9.0)


class _Load:
    """Jobs by three programs in turn, with looks at the mesh between."""

    def __init__(self, mesh: LoadedMesh, client: ClientProgram, plain: PlainProgram, tally: Tally) -> None:
        self._mesh = mesh
        self._client = client
        self._tally = tally
        kinds: list[Callable[[], Job]] = [client.submit, client.submit_frame, lambda: plain.submit(DEADLINE)]
        self._kinds = itertools.cycle(kinds)
        self.memory: dict[str, list[tuple[float, float]]] = {}
        self.queued: list[tuple[int, float]] = []
        """Jobs and seconds of work, as heartbeats said."""

    def closed(self, seconds: float) -> float:
        """Answered jobs a second with a fixed number under way, of the second half."""
        began, jobs = time.monotonic(), []
        while (now := time.monotonic()) < began + seconds:
            if self._tally.wait_below(_WINDOW, 0.2):
                jobs.append(self._client.submit())
        counted = [
            job
            for job in jobs
            if job.end == RIGHT and job.ended is not None and began + seconds / 2.0 <= job.ended <= now
        ]
        return len(counted) / (seconds / 2.0)

    def offered(self, rate: float, seconds: float) -> list[Job]:
        """Jobs at a fixed rate, whatever comes back."""
        began, jobs, looked = time.monotonic(), list[Job](), 0.0
        while (now := time.monotonic()) < began + seconds:
            if now - looked > 1.0:
                self._look(now)
                looked = now
            due = int((now - began) * rate) + 1
            while len(jobs) < due:
                jobs.append(next(self._kinds)())
            time.sleep(max(0.0, began + due / rate - time.monotonic()))
        return jobs

    def _look(self, now: float) -> None:
        for name, found in self._mesh.usages().items():
            self.memory.setdefault(name, []).append((now, found.memory / 1e6))
        for device in self._mesh.devices:
            said, _ = self._mesh.observer.said(f"device/{device}/heartbeat")
            if said:
                beat = json.loads(said)
                self.queued.append((beat["queue"], beat["queued_seconds"]))


def measure(report: Report, guard: Guard) -> None:
    """Add the claims of one overload to ``report``."""
    lengths = QUICK if report.quick else FULL
    model = zoo_model(guard.folder / "model", "face-short")
    picture = questions(model, 1)[0].payload
    tensors = input_tensors(model.manifest, picture).tensors
    name, tally = model.manifest.name, Tally()
    with LoadedMesh(guard, model, emulated=True) as mesh:
        plain = PlainProgram(mesh.port, mesh.observer.root, name, picture, tally)
        client = ClientProgram(mesh.url, NAME, name, tensors, tally, DEADLINE)
        load = _Load(mesh, client, plain, tally)
        capacity = load.closed(lengths.capacity)
        report.figure("capacity, answered jobs a second, closed loop", capacity)
        _settle(tally)
        normal = load.offered(_NORMAL_SHARE * capacity, lengths.normal)
        load.memory.clear()
        load.queued.clear()
        tally.most_open.clear()
        began = time.monotonic()
        overload = load.offered(_TIMES * capacity, lengths.overload)
        over = time.monotonic()
        memory, queued, most_open = dict(load.memory), load.queued[:], dict(tally.most_open)
        load.memory.clear()
        after = load.offered(_NORMAL_SHARE * capacity, lengths.after)
        _settle(tally)
        client.close()
        plain.close()
    report.figure("offered during overload, jobs a second", len(overload) / (over - began))
    _accounts(report, [*normal, *overload, *after], plain.unknown)
    _answers(report, overload, capacity, over - began)
    _bounds(report, queued, most_open, capacity)
    for process, samples in memory.items():
        report.claim(f"overload: memory of {process}, end against start", rise(samples), 1.10)
    _recovery(report, normal, after, over)


def _settle(tally: Tally) -> None:
    tally.wait_below(1, DEADLINE + _SETTLE_SECONDS)


def _accounts(report: Report, jobs: Sequence[Job], unknown: int) -> None:
    report.figure("jobs of all phases but the first", len(jobs))
    report.claim("jobs without an end", sum(job.ends == 0 for job in jobs), 0, "")
    report.claim("jobs with more than one end", sum(job.ends > 1 for job in jobs), 0, "")
    report.claim("results of no job", unknown, 0, "")
    late = [job.seconds - DEADLINE for job in jobs if job.ends]
    report.claim("latest end of a job after its deadline", max(0.0, *late), _END_LATE, "s")
    allowed = {RIGHT, "busy", "superseded", "deadline"}
    others = ends(job for job in jobs if job.end not in allowed and job.ends)
    report.claim(
        f"jobs that ended in another error{': ' if others else ''}{', '.join(others)}", others.total(), 0, ""
    )


def _answers(report: Report, jobs: Sequence[Job], capacity: float, seconds: float) -> None:
    for end, count in sorted(ends(jobs).items()):
        report.figure(f"overload: {end}", count)
    answered = [job.seconds for job in jobs if job.end == RIGHT]
    if answered:
        for text, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)):
            report.figure(f"overload: answered jobs, {text} s", quantile(answered, share))
    text, taken = "overload: p95 of jobs taken on against their deadline", seconds_of_taken(jobs)
    # One program may have too few for a claim: of a stream most frames are superseded.
    for program, seconds_each in sorted(taken.items()):
        report.figure(f"overload: jobs taken on, {program}", len(seconds_each))
        report.figure(f"overload: jobs taken on, p95 s, {program}", quantile(seconds_each, 0.95))
    if taken:
        report.claim(text, quantile(list(itertools.chain(*taken.values())), 0.95) / DEADLINE, 1)
    else:
        report.claim_nothing(text, 1, "none was")
    # As a shortfall, because claims are upper bounds.
    report.claim(
        "overload: capacity over answered jobs a second", capacity * seconds / max(1, len(answered)), 1.25
    )
    for end in ("busy", "superseded"):
        text, until = f"overload: until {end}, p95", [job.seconds for job in jobs if job.end == end]
        if until:
            report.figure(f"overload: until {end}, p50 ms", quantile(until, 0.5) * 1e3)
            report.claim(text, quantile(until, 0.95) * 1e3, _AT_ONCE_MS, "ms")
        else:
            report.claim_nothing(text, _AT_ONCE_MS, "none was")
    waited = sum(job.end == "deadline" for job in jobs) / len(jobs)
    report.claim("overload: share of jobs that ended by their deadline", waited, 0.02, "")


def _bounds(
    report: Report, queued: Sequence[tuple[int, float]], most_open: dict[str, int], capacity: float
) -> None:
    report.figure("overload: jobs at one device, most", max((n for n, _ in queued), default=0))
    report.claim(
        "overload: seconds of work at one device, most",
        max((s for _, s in queued), default=0.0),
        _QUEUE_SHARE * DEADLINE + max(SECONDS_OF_MODEL.values()),
        "s",
    )
    for program, count in sorted(most_open.items()):
        report.figure(f"overload: open jobs of {program}, most", count)
    # What the devices may take until the deadline, and what is offered until it is refused.
    bound = capacity * DEADLINE + _TIMES * capacity * _AT_ONCE_MS / 1e3
    report.claim(
        "overload: open jobs, most against what can be done or refused in time",
        sum(most_open.values()) / bound,
        1,
    )


def seconds_of_taken(jobs: Iterable[Job]) -> dict[str, list[float]]:
    """Program to the seconds of its jobs that nobody refused; infinite where one has no answer.

    The answered ones alone are never later than their deadline, however many others are.
    """
    taken: dict[str, list[float]] = {}
    for job in jobs:
        if job.end in {RIGHT, "deadline", None}:
            taken.setdefault(job.program, []).append(job.seconds if job.end == RIGHT else math.inf)
    return taken


def _recovery(report: Report, normal: Sequence[Job], after: Sequence[Job], over: float) -> None:
    answered = [job.seconds for job in normal if job.end == RIGHT]
    if not answered:
        raise NotMeasurableError("no job was answered under normal load, so nothing can be normal again")
    usual = quantile(answered, 0.95)
    report.figure("normal load, p95 ms", usual * 1e3)
    seconds = recovered_after(
        [(job.began - over, job.seconds if job.end == RIGHT else math.inf) for job in after],
        1.25 * usual,
        _GOOD_SECONDS,
    )
    report.claim(
        f"seconds until p95 is within 1.25 x normal for {_GOOD_SECONDS} s in a row", seconds, 5.0, "s"
    )


def recovered_after(jobs: Iterable[tuple[float, float]], limit: float, row: int) -> float:
    """The first whole second of ``row`` in a row in each of which p95 is at most ``limit``; else infinite.

    ``jobs`` are ``(when it began, seconds it took)``. A second in which no job began is none of them.
    """
    by_second: dict[int, list[float]] = {}
    for began, seconds in jobs:
        by_second.setdefault(int(began), []).append(seconds)
    good = {second for second, values in by_second.items() if quantile(values, 0.95) <= limit}
    firsts = [second for second in good if good.issuperset(range(second, second + row))]
    return float(min(firsts, default=math.inf))
