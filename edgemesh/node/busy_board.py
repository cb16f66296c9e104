"""A board gets busy under a stream of jobs: how soon the plan changes, and what that is worth."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgemesh.device.emulated_load import TIMES_RANGE, set_emulated_load
from edgemesh.errors import EdgemeshError
from edgemesh.node.client import AsyncClient
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.observe.plan_table import route_text
from edgemesh.planning.wording import as_milliseconds
from edgemesh.protocol.activation import Hop, Timing
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.what_if import FrontRequest, FrontResponse

TIMES: Final = 4.0
"""How many times longer than before the board takes for its units."""
_OTHER_PART: Final = 3.0
"""A camera that does everything itself gets so busy that another device would need only one part in so many.
Where sending takes several times as long as running, 4 x changes nothing; and a link that was little used is
not known well, so a small gain is not clear at once."""
CHANGE_SECONDS: Final = 12.0
"""A new plan is waited for so long."""
_STEADY_SECONDS: Final = 3.0
"""So long a plan is in force, under jobs, before the load comes: what changes then is due to the load."""
_STEADY_LIMIT: Final = 12.0
_AFTER_SECONDS: Final = 8.0
_JOBS: Final = 10
"""Jobs of a median, where there are as many."""
_PAUSE_SECONDS: Final = 0.1
"""After a job that failed, or a mesh without a route would be asked without end."""


@dataclass(frozen=True)
class Period:
    """Jobs of one time under one plan."""

    label: str
    route: tuple[Hop, ...]
    predicted: float
    """Seconds, by the assignment of this time."""
    jobs: int
    measured: float | None
    """Median seconds; None without a job."""
    joules: float | None
    """Modelled, by the same assignment."""


@dataclass(frozen=True)
class BusyBoard:
    """What came of it."""

    model: str
    device: str
    times: float
    periods: tuple[Period, ...]
    """Before the load; under it with the plan as before; after the change, if there was one."""
    noticed: float | None
    """Seconds from the load to the new assignment; None where the plan did not change."""
    reason: str
    """Of the change, or why the plan is still the best."""
    failed: int
    """Jobs that ended in an error."""


@dataclass(frozen=True)
class Job:
    """One that ended in a result."""

    begun: float
    """On the clock of the event loop."""
    route: tuple[Hop, ...]
    seconds: float
    timings: tuple[Timing, ...]


@dataclass
class BusyBoardTest:
    """One run on a mesh with an assignment of the model for the camera."""

    reader: MeshReader
    client: AsyncClient
    """Its origin is the camera."""
    model: str
    camera: str
    image: bytes
    directory: Callable[[str], Path]
    """Of an emulated board by name."""
    say: Callable[[str], None]
    _jobs: list[Job] = field(default_factory=list)
    _failed: int = 0
    _over: bool = False

    async def run(self) -> BusyBoard:
        """Stream, load the board that works most, wait for another plan; the load is gone at the end."""
        loop = asyncio.get_running_loop()
        stream = loop.create_task(self._stream())
        loaded: str | None = None
        try:
            self.say(f"{self.model}: sending the photograph again and again")
            steady_at = await self._until_steady(loop)
            before = self._assignment
            device = busiest(before, self.camera)
            times = TIMES if device != self.camera else await self._times_alone(steady_at)
            emulated = self._emulated_times(device, times, before)
            loaded = device
            loaded_at = loop.time()
            set_emulated_load(self.directory(loaded), emulated)
            self.say(f"{loaded} gets busy: its units take {times:g} times as long as before")
            changed = await self._until(lambda: not same_units(self._assignment, before), CHANGE_SECONDS)
            changed_at = loop.time()
            if changed:
                self.say(
                    f"new plan after {changed_at - loaded_at:.1f} s: {route_text(self._assignment.route)}"
                )
                await self._until(
                    lambda: len(self._on_route(self._assignment, changed_at)) >= _JOBS, _AFTER_SECONDS
                )
            after = self._assignment
            reason = after.reason
            if not changed:
                reason = why_kept(await self._front())
                self.say(f"no new plan in {CHANGE_SECONDS:.0f} s")
            self._over = True
            await stream  # the mesh is taken down next: no job should be under way then
        finally:
            if loaded is not None:
                set_emulated_load(self.directory(loaded), 1.0)
            stream.cancel()
        periods = [
            period_of("before", before, self._between(steady_at, loaded_at)),
            period_of("busy, plan as before", before, self._between(loaded_at, changed_at)),
        ]
        if changed:
            periods.append(period_of("busy, new plan", after, self._on_route(after, changed_at)))
        noticed = changed_at - loaded_at if changed else None
        return BusyBoard(self.model, loaded, times, tuple(periods), noticed, reason, self._failed)

    @property
    def _assignment(self) -> Assignment:
        return self.reader.reading.view.assignments[self.model, self.camera]

    async def _stream(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._over:
            begun = loop.time()
            try:
                result = await self.client.infer(self.model, self.image)
            except EdgemeshError:
                self._failed += 1
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                self._jobs.append(Job(begun, result.route, result.seconds, result.timings))

    async def _times_alone(self, steady_at: float) -> float:
        """How many times longer the camera is to take where it does everything."""
        front = await self._front()
        others = [one.seconds for one in front.singles if one.route[0].device != self.camera]
        jobs = [job.seconds for job in self._jobs if job.begun >= steady_at]
        if not others or not jobs:
            return TIMES
        return max(TIMES, math.ceil(_OTHER_PART * min(others) / statistics.median(jobs)))

    async def _front(self) -> FrontResponse:
        request = FrontRequest(self.reader.reading.requester, self.model, self.camera)
        return await self.reader.asked("front", request, FrontResponse)

    def _emulated_times(self, device: str, times: float, assignment: Assignment) -> float:
        """Of the board's own time, so that ``device`` takes ``times`` as long as it took.

        Where this machine is slower than the board it stands for, jobs take longer than the board would:
        they would hardly notice a load up to there.
        """
        profile = self.reader.reading.profiles[device, self.model]
        places = [at for at, hop in enumerate(assignment.hops) if hop.device == device]
        own = sum(sum(profile.seconds[assignment.hops[at].start : assignment.hops[at].stop]) for at in places)
        runs = [
            sum(job.timings[at].run for at in places) for job in self._jobs if job.route == assignment.route
        ]
        slower = statistics.median(runs) / own if runs and own > 0.0 else 1.0
        return min(times * max(1.0, slower), TIMES_RANGE[1])

    async def _until(self, holds: Callable[[], bool], seconds: float) -> bool:
        return await self.reader.until(holds, seconds)

    async def _until_steady(self, loop: asyncio.AbstractEventLoop) -> float:
        """Since when the plan is what it is."""
        ends = loop.time() + _STEADY_LIMIT
        while True:
            seen, since = self._assignment, loop.time()
            moved = await self._until(lambda: not same_units(self._assignment, seen), _STEADY_SECONDS)  # noqa: B023
            enough = len(self._between(since, loop.time())) > 0
            if (not moved and enough) or loop.time() >= ends:
                return since

    def _between(self, start: float, stop: float) -> list[Job]:
        return [job for job in self._jobs if start <= job.begun < stop]

    def _on_route(self, assignment: Assignment, start: float) -> list[Job]:
        return [job for job in self._jobs if job.begun >= start and job.route == assignment.route]


def why_kept(front: FrontResponse) -> str:
    """Why the plan in force stays, where least latency is wanted."""
    now = front.in_force
    if now is None or not front.points:
        return front.error or "no other plan is known"
    best = front.points[0]
    took = as_milliseconds(now.seconds)
    if best.route != now.route and best.seconds < now.seconds:
        return (
            f"{route_text(best.route)} would take {as_milliseconds(best.seconds)} instead of {took}, but "
            "that is not yet clear enough on these estimates"
        )
    others = (
        f"all on {single.route[0].device} would take {as_milliseconds(single.seconds)}"
        for single in front.singles
        if single.route != now.route
    )
    return "; ".join([f"it is the fastest even so ({took})", *others])


def busiest(assignment: Assignment, camera: str) -> str:
    """The board that works longest for a job; the camera only where it does everything."""
    seconds: dict[str, float] = {}
    for hop in assignment.hops:
        seconds[hop.device] = seconds.get(hop.device, 0.0) + hop.run
    others = {device: run for device, run in seconds.items() if device != camera}
    return max(others, key=lambda device: others[device]) if others else camera


def same_units(one: Assignment, other: Assignment) -> bool:
    """Whether the same devices run the same units."""
    return [(hop.device, hop.stop) for hop in one.route] == [(hop.device, hop.stop) for hop in other.route]


def period_of(label: str, assignment: Assignment, jobs: Sequence[Job]) -> Period:
    """What ``jobs`` took while ``assignment`` was in force."""
    measured = statistics.median(job.seconds for job in jobs) if jobs else None
    return Period(label, assignment.route, assignment.seconds, len(jobs), measured, assignment.joules)


def as_plain(found: BusyBoard) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "model": found.model,
        "device": found.device,
        "times": found.times,
        "noticed": found.noticed,
        "reason": found.reason,
        "failed": found.failed,
        "periods": [period_as_plain(period) for period in found.periods],
    }


def period_as_plain(period: Period) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "label": period.label,
        "route": [{"device": hop.device, "stop": hop.stop, "codec": hop.codec} for hop in period.route],
        "predicted": period.predicted,
        "measured": period.measured,
        "joules": period.joules,
        "jobs": period.jobs,
    }
