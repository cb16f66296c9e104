"""A board is killed in the middle of a job: whether the answer still comes, how late, over which route."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np

from edgemesh.errors import EdgemeshError, NoRouteError
from edgemesh.node.busy_board import Job, Period, busiest, period_as_plain, period_of
from edgemesh.node.client import AsyncClient
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.node.prepared_job import Result
from edgemesh.observe.plan_table import route_text
from edgemesh.planning.wording import as_milliseconds
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.requests import Policy

_JOBS: Final = 10
"""Of a median."""
_BEFORE_SECONDS: Final = 12.0
_AFTER_SECONDS: Final = 6.0
_POLICY_SECONDS: Final = 8.0
_AIMS: Final = 5
"""Jobs of a few milliseconds may have ended when this program gets the processor again."""
_PAUSE_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Kill:
    """One SIGKILL of an agent and its executor, and what became of the job under way."""

    device: str
    after: float
    """Seconds from the submission of that job."""
    seconds: float | None
    """That the job took; None where it ended in an error."""
    attempts: int
    hit: bool
    """Whether the job was sent a second time because of it, and answered without the device."""
    late: float | None
    """Seconds beyond the median of the jobs before; None where it was not hit."""
    difference: float | None
    """Largest difference of its output tensors to those before; 0.0 for the same bits, None without any."""
    replanned: float | None
    """Seconds from the kill to an assignment without the device; None where none came in time."""


@dataclass(frozen=True)
class KilledBoard:
    """What came of the third act."""

    model: str
    without_camera: bool
    """Whether the policy kept the camera from running units, as it would have run all of them."""
    kill: Kill | None
    """None where there was nothing to kill, or no job to be hit."""
    periods: tuple[Period, ...]
    """Before; the job that was hit; with the plan after it."""
    note: str = ""
    """Why something did not happen."""


@dataclass(frozen=True)
class _Shot:
    after: float
    """Seconds into the job."""
    outcome: Result | EdgemeshError
    """Of that job."""
    replanned: asyncio.Task[float | None]


@dataclass
class KilledBoardTest:
    """One run on a mesh with an assignment of the model for the camera; it has a board less afterwards."""

    reader: MeshReader
    client: AsyncClient
    """Its origin is the camera."""
    model: str
    camera: str
    image: bytes
    without_camera: Policy
    """The policy that keeps the camera from running units, for where it would do everything."""
    kill: Callable[[str], None]
    """Of a board by name: its agent and its executor end without a word."""
    say: Callable[[str], None]
    _last: Result | None = field(default=None, init=False)
    _known: Assignment | None = field(default=None, init=False)

    async def run(self) -> KilledBoard:
        """Jobs one after another; one board dies under one of them."""
        self.say(f"{self.model}: sending the photograph, one job after another")
        before = await self._steady()
        alone = busiest(self._assignment, self.camera) == self.camera
        if alone:
            others = set(self.reader.reading.online()) - {self.camera}
            if len(others) < 2:
                return self._nothing(False, "the camera does everything, and no two other boards are there")
            await self._keep_camera_out()
            before = await self._steady()
        device = busiest(self._assignment, self.camera)
        if device == self.camera:
            return self._nothing(alone, "the plan is still all on the camera")
        if not before or self._last is None:
            return self._nothing(alone, f"no job took the planned route in {_BEFORE_SECONDS:.0f} s")
        period = period_of("before", self._assignment, before)
        normal, reference = statistics.median(job.seconds for job in before), self._last
        shot = await self._shot(device, self._moment(device) * normal)
        if shot is None:
            why = f"{_AIMS} jobs ended before {device} could be killed under them"
            return self._nothing(alone, why, period)
        kill = self._seen(device, shot, normal, reference)
        kill = replace(kill, replanned=await self._told_when(shot, device))
        periods = [period, *self._hit_period(kill, shot.outcome)]
        if kill.replanned is not None:
            periods.append(period_of(f"plan without {device}", self._assignment, await self._after()))
        failed = not isinstance(shot.outcome, Result)
        note = f"the job under way ended in an error: {shot.outcome}" if failed else ""
        return KilledBoard(self.model, alone, kill, tuple(periods), note)

    @property
    def _assignment(self) -> Assignment:
        found = self.reader.reading.view.assignments.get((self.model, self.camera), self._known)
        if found is None:
            raise NoRouteError(f"no decision node has planned {self.model} for {self.camera}")
        self._known = found  # one that is cleared for a moment is still the last one that was in force
        return found

    def _nothing(self, alone: bool, why: str, *periods: Period) -> KilledBoard:
        self.say(f"no board is killed: {why}")
        return KilledBoard(self.model, alone, None, periods, why)

    async def _keep_camera_out(self) -> None:
        self.say(f"{self.model}: the camera would do everything; from now on it may run no units (policy)")
        await self.reader.publish_retained("policy", encode_json(self.without_camera), model=self.model)
        await self.reader.until(lambda: self.camera not in self._assignment.devices, _POLICY_SECONDS)

    async def _job(self) -> Job | None:
        """One job; None where it ended in an error."""
        begun = asyncio.get_running_loop().time()
        try:
            result = await self.client.infer(self.model, self.image)
        except EdgemeshError:
            await asyncio.sleep(_PAUSE_SECONDS)
            return None
        self._last = result
        return Job(begun, result.route, result.seconds, result.timings)

    async def _steady(self) -> list[Job]:
        """Jobs in a row that took the route of the plan in force, as soon as there are enough."""
        loop = asyncio.get_running_loop()
        ends, jobs = loop.time() + _BEFORE_SECONDS, list[Job]()
        while len(jobs) < _JOBS and loop.time() < ends:
            job = await self._job()
            planned = job is not None and job.route == self._assignment.route
            if job is not None and planned and (not jobs or jobs[-1].route == job.route):
                jobs.append(job)
            else:
                jobs.clear()
        return jobs

    def _moment(self, device: str) -> float:
        """When ``device`` is in the middle of its units, as a part of the whole job."""
        plan, passed = self._assignment, 0.0
        for hop in plan.hops:
            passed += hop.transfer + hop.queue
            if hop.device == device:
                return min((passed + hop.run / 2) / plan.seconds, 1.0) if plan.seconds > 0.0 else 0.5
            passed += hop.run
        return 0.5

    async def _shot(self, device: str, after: float) -> _Shot | None:
        """Kill ``device`` ``after`` so many seconds of a job; None where each job had ended by then."""
        loop = asyncio.get_running_loop()
        for _ in range(_AIMS):
            begun = loop.time()
            task = loop.create_task(self.client.infer(self.model, self.image))
            done, _ = await asyncio.wait({task}, timeout=after)
            if done:
                task.exception()  # an error of a job that nobody was killed under is not this act's
                continue
            killed_at = loop.time()
            self.kill(device)
            self.say(f"{device} is killed {(killed_at - begun) * 1e3:.0f} ms into a job (SIGKILL)")
            replanned = loop.create_task(self._replanned(device, killed_at))
            try:
                return _Shot(killed_at - begun, await task, replanned)
            except EdgemeshError as error:
                return _Shot(killed_at - begun, error, replanned)
        return None

    def _seen(self, device: str, shot: _Shot, normal: float, reference: Result) -> Kill:
        outcome = shot.outcome
        if not isinstance(outcome, Result):
            self.say(f"the job ended in an error: {outcome}")
            return Kill(device, shot.after, None, 0, False, None, None, None)
        # What the requester itself says of the job: a first attempt that came home was not hit.
        hit = outcome.attempts > 1 and device not in {hop.device for hop in outcome.route}
        late = outcome.seconds - normal if hit else None
        if late is None:
            self.say(f"the job under way had left {device} already: it was not hit")
        else:
            self.say(f"the answer came over {route_text(outcome.route)}, {late * 1e3:.0f} ms late")
        difference = largest_difference(outcome, reference)
        return Kill(device, shot.after, outcome.seconds, outcome.attempts, hit, late, difference, None)

    def _hit_period(self, kill: Kill, outcome: Result | EdgemeshError) -> list[Period]:
        if not kill.hit or not isinstance(outcome, Result):
            return []
        label = f"{kill.device} is killed"
        return [Period(label, outcome.route, outcome.predicted or 0.0, 1, outcome.seconds, None)]

    async def _replanned(self, device: str, killed_at: float) -> float | None:
        """Seconds from the kill to an assignment without ``device``."""
        changed = await self.reader.until(lambda: device not in self._assignment.devices, _AFTER_SECONDS)
        return asyncio.get_running_loop().time() - killed_at if changed else None

    async def _told_when(self, shot: _Shot, device: str) -> float | None:
        seconds = await shot.replanned
        if seconds is None:
            self.say(f"no plan without {device} in {_AFTER_SECONDS:.0f} s")
        else:
            route = route_text(self._assignment.route)
            self.say(f"plan without {device} {as_milliseconds(seconds)} after: {route}")
        return seconds

    async def _after(self) -> list[Job]:
        """Jobs on the route of the plan in force."""
        loop = asyncio.get_running_loop()
        ends, jobs = loop.time() + _AFTER_SECONDS, list[Job]()
        while len(jobs) < _JOBS and loop.time() < ends:
            job = await self._job()
            if job is not None:
                jobs.append(job)
            jobs = [job for job in jobs if job.route == self._assignment.route]
        return jobs


def largest_difference(one: Result, other: Result) -> float:
    """Largest absolute difference of the output tensors; 0.0 for the same bits, infinite for other shapes."""
    mine, others = one.tensors, other.tensors
    if [tensor.shape for tensor in mine] != [tensor.shape for tensor in others]:
        return float("inf")
    if all(a.tobytes() == b.tobytes() for a, b in zip(mine, others)):
        return 0.0
    apart = (np.abs(a.astype(np.float64) - b) for a, b in zip(mine, others) if a.size)
    return max(float(np.max(difference)) for difference in apart)


def as_plain(found: KilledBoard) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "model": found.model,
        "without_camera": found.without_camera,
        "kill": None if found.kill is None else asdict(found.kill),
        "periods": [period_as_plain(period) for period in found.periods],
        "note": found.note,
    }
