"""Perform one run on a testbed: what happened to every job, and what it took."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from benchmarks.report import NotMeasurableError
from testbeds.bed import Bed
from testbeds.told_jobs import ToldJobs

from edgemesh.device.boards import Board, load_board
from edgemesh.protocol.activation import Timing
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.simulation.plans import Case, Phase
from edgemesh.simulation.scenario import slowdowns, states_at
from edgemesh.simulation.scheduled_decider import fixed_assignment
from reproduction.study import ORIGIN, Planned

WARM_UP_SECONDS = 2.0
"""Jobs before anything is measured: the plan is in force and loaded, and estimates rest on jobs."""
_READY_SECONDS = 30.0
_ROUND_SECONDS = 1.0
"""Of jobs between two looks at whether the plan is in force."""
_PACE_JITTER = 0.1
"""Of the time between two jobs: a camera is no metronome."""


@dataclass
class Record:
    """What one run came to. Seconds are those of the stretched clock; joules are of the boards."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    """As the camera's program told them, with the joules of each."""
    joules_radio: float = 0.0
    """Of all links: watts times the bytes' airtime, heartbeats and probes included."""
    nbytes: int = 0
    """Sent and received by all devices."""
    switches: list[dict[str, Any]] = field(default_factory=list)
    """Routes of the origin that took the place of another: when, route, reason."""
    skipped: int = 0
    """Frames that came while the one before was still under way."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Performer:
    """Performs runs on one bed, one after the other. Use it from the thread that made the bed."""

    def __init__(self, bed: Bed, manifest: Manifest) -> None:
        self._bed = bed
        self._model = manifest.name
        self._digest = manifest.digest
        self._boards = {name: load_board(spec.board) for name, spec in bed.devices.items()}
        self._sequence = 0
        self._term = 0
        self._assignments: list[tuple[float, Assignment]] = []
        bed.observer.on_assignment = self._assigned

    def perform(self, planned: Planned, case: Case, seed: int) -> Record:
        """One run; raises NotMeasurableError when the mesh does not get ready."""
        record = Record()
        self._become(case, 0.0)
        # What was in force before says nothing of this run.
        self._assignments = []
        self._plan_for(planned, case)
        self._warm_up(case)
        self._assignments = self._assignments[-1:]
        with self._camera(arrivals(case, seed), case.scenario.deadline) as (began, told):
            meter = _Meter(self._bed, self._boards, case, record)
            self._follow(planned, case, began, meter)
            # The agent may have a job under way that is measured, too.
            jobs = told.all()
            meter.read(case.scenario.duration)
        record.skipped = sum(bool(job.get("skipped")) for job in jobs)
        record.jobs = [self._counted(job, case, began) for job in jobs if not job.get("skipped")]
        record.switches = _switches(self._assignments, began)
        return record

    # --- the mesh ----------------------------------------------------------------------------------------

    def _become(self, case: Case, at: float) -> None:
        """Put links, loads and presence as the scenario has them at ``at``."""
        bed = self._bed
        for name, state in states_at(case.scenario, at).items():
            if not state.present:
                bed.leave(name)
                continue
            bed.come_back(name)
            link = self._boards[name].link
            assert link is not None
            bed.set_link(
                name,
                link.up_bytes_per_second * state.rate,
                link.down_bytes_per_second * state.rate,
                link.delay_up if state.delay is None else state.delay,
            )
            bed.set_load(name, state.load)

    def _plan_for(self, planned: Planned, case: Case) -> None:
        bed = self._bed
        if planned.phases is not None:
            bed.decision(False)
            self._publish(planned.phases[0])
            return
        # A new decision node, as ignorant at the start of each run.
        bed.decision(False)
        topic = bed.topics.build("policy", model=self._model)
        bed.observer.publish(topic, encode_json(case.scenario.policy))
        bed.observer.publish(self._assignment_topic, b"")
        bed.decision(True)

    @property
    def _assignment_topic(self) -> str:
        return self._bed.topics.build("assignment", model=self._model, origin=ORIGIN)

    def _publish(self, phase: Phase) -> None:
        self._sequence += 1
        # Above all that a decision node of this term said, below the first word of the next one.
        epoch = self._term, 100_000 + self._sequence
        chosen = phase.plans[self._model, ORIGIN]
        reason = "a fixed plan of the experiment"
        message = fixed_assignment(epoch, self._model, self._digest, ORIGIN, chosen, reason)
        self._bed.observer.publish(self._assignment_topic, encode_json(message))

    def _warm_up(self, case: Case) -> None:
        """Jobs until one takes the route in force, which is loaded everywhere then, and for a while after."""
        interval = 1.0 / case.rate(case.scenario.streams[0])
        ends = time.monotonic() + _READY_SECONDS
        while not self._jobs_take_the_route(max(2, round(_ROUND_SECONDS / interval)), interval):
            if time.monotonic() > ends:
                plan = self._assignments[-1][1].route if self._assignments else "no assignment"
                raise NotMeasurableError(
                    f"no job of {self._model} took the route in force ({plan}) within {_READY_SECONDS:.0f} s"
                )
        self._jobs_take_the_route(max(2, round(WARM_UP_SECONDS / interval)), interval)

    def _jobs_take_the_route(self, count: int, interval: float) -> bool:
        with self._camera([interval * number for number in range(count)], 60.0) as (_, told):
            jobs = told.all()
        return bool(self._assignments) and jobs[-1].get("route") == _route(self._assignments[-1][1])

    @contextmanager
    def _camera(self, times: Sequence[float], deadline: float) -> Iterator[tuple[float, ToldJobs]]:
        """When the first job is due, and what comes of the jobs."""
        request = {"model": self._model, "at": list(times), "deadline": deadline}
        folder = str(self._bed.directory(ORIGIN))
        command = [sys.executable, "-m", "reproduction.camera", ORIGIN, folder, json.dumps(request)]
        process = self._bed.popen(command, ORIGIN)
        assert process.stdout is not None
        what = f"the program on {ORIGIN} that has jobs run"
        if not process.stdout.readline():
            raise NotMeasurableError(f"{what} did not start")
        yield time.monotonic(), ToldJobs(what, process, len(times))

    def _follow(self, planned: Planned, case: Case, began: float, meter: _Meter) -> None:
        """Change what changes, when it does."""
        for at in case.scenario.phases[1:]:
            time.sleep(max(0.0, began + at - time.monotonic()))
            meter.read(at)
            self._become(case, at)
            phase = next((phase for phase in planned.phases or () if phase.at == at), None)
            if phase is not None:
                self._publish(phase)

    def _assigned(self, told: Assignment) -> None:
        self._term = max(self._term, told.term)
        if told.origin == ORIGIN and told.model == self._model:
            self._assignments.append((time.monotonic(), told))

    # --- what it took ------------------------------------------------------------------------------------

    def _counted(self, told: dict[str, Any], case: Case, began: float) -> dict[str, Any]:
        """The job with its joules: ``joules`` as if each board were its own, ``joules_held`` for as long as
        it was held up by other programs, too."""
        timings = [Timing(*each) for each in told.get("timings", ())]
        joules = held = 0.0
        for timing, slowdown in zip(timings, slowdowns(case.scenario, told["at"], timings)):
            board, seconds = self._boards[timing.device], timing.run + timing.code
            watts = (board.busy_watts or 0.0) - (board.idle_watts or 0.0)
            held += watts * seconds / self._bed.time_scale
            joules += watts * seconds / slowdown / self._bed.time_scale
        predicted = self._hop_errors(told, began)
        return {**told, "joules": joules, "joules_held": held, "hop_errors": predicted}

    def _hop_errors(self, told: dict[str, Any], began: float) -> list[float]:
        """Relative errors of the predicted times of the job's hops, by the assignment it ran under."""
        ran = told.get("timings") or []
        at = began + told["at"]
        for when, plan in reversed(self._assignments):
            if when <= at and _route(plan) == told.get("route"):
                hops = {(hop.device, hop.stop): hop.queue + hop.run for hop in plan.hops}
                return [
                    abs(hops[device, stop] - (queue + run + code)) / (queue + run + code)
                    for device, _start, stop, queue, run, code in ran
                    if (device, stop) in hops and queue + run + code > 0.0
                ]
        return []


class _Meter:
    """Counts bytes and their airtime while the links stay as they are."""

    def __init__(self, bed: Bed, boards: Mapping[str, Board], case: Case, record: Record) -> None:
        self._bed = bed
        self._boards = boards
        self._case = case
        self._record = record
        self._before = bed.link_bytes()
        self._at = 0.0

    def read(self, at: float) -> None:
        """Count what passed since the last reading, at the rates that held until now."""
        states = states_at(self._case.scenario, self._at)
        now = self._bed.link_bytes()
        for device, (sent, received) in now.items():
            board, rate = self._boards[device], states[device].rate
            assert board.link is not None
            before = self._before[device]
            sent, received = sent - before[0], received - before[1]
            # At the board's own rates: a stretched link takes longer and is not on any longer.
            up, down = board.link.up_bytes_per_second, board.link.down_bytes_per_second
            airtime = sent / (up * rate) + received / (down * rate)
            self._record.joules_radio += (board.radio_watts or 0.0) * airtime
            self._record.nbytes += sent + received
        self._before, self._at = now, at


def arrivals(case: Case, seed: int) -> list[float]:
    """When jobs arise, in seconds of the run; the same for the same seed and scenario."""
    random = Random(f"{seed} {case.model}")
    interval = 1.0 / case.rate(case.scenario.streams[0])
    times, count = [], 0
    while (at := (count + _PACE_JITTER * random.random()) * interval) < case.scenario.duration:
        times.append(at)
        count += 1
    return times


def _switches(assignments: Sequence[tuple[float, Assignment]], began: float) -> list[dict[str, Any]]:
    switches: list[dict[str, Any]] = []
    route = None
    for at, told in assignments:
        found = _route(told)
        if route is not None and found != route and at >= began:
            switches.append({"at": at - began, "route": found, "reason": told.reason})
        route = found
    return switches


def _route(plan: Assignment) -> list[list[Any]]:
    return [[hop.device, hop.stop] for hop in plan.route]
