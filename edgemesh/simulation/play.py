"""One run of a scenario: the mesh is built, jobs arise, things change, and what happened is measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count, takewhile
from random import Random

from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.roles.actions import JobEnded, Publish
from edgemesh.roles.conditions import energy_weight
from edgemesh.roles.decider import Decider
from edgemesh.roles.events import JobSubmitted
from edgemesh.simulation.board_device import BoardDevice
from edgemesh.simulation.broker import Message
from edgemesh.simulation.connection import ModelledConnection
from edgemesh.simulation.mesh import Mesh
from edgemesh.simulation.plans import Case, Phase
from edgemesh.simulation.played_stream import PlayedStream, jittered
from edgemesh.simulation.role_node import RoleNode
from edgemesh.simulation.scenario import Stream, slowdowns, states_at
from edgemesh.simulation.scheduled_decider import ScheduledDecider
from edgemesh.simulation.sections import section_bytes, stand_in
from edgemesh.simulation.unit_tables import unit_table

PROFILING_SECONDS = 60.0
"""By then every device that is there has published its profiles."""
WARM_UP_SECONDS = 90.0
"""Jobs before anything is measured: every plan is in force, and its estimates rest on jobs."""
_ORACLE = "oracle"
"""Whose plans are a bound for all others: to switch costs it nothing."""


@dataclass(frozen=True)
class Job:
    """One job that was measured."""

    at: float
    """Seconds of the scenario when it arose."""
    seconds: float
    predicted: float | None
    code: str | None


@dataclass(frozen=True)
class Switch:
    """A route that took the place of another."""

    at: float
    model: str
    origin: str
    route: str
    reason: str


@dataclass
class Outcome:
    """What one run came to; all figures are modelled."""

    name: str
    """``decided`` or that of a baseline."""
    jobs: list[Job] = field(default_factory=list)
    joules: float = 0.0
    """Above idle, of all devices, while jobs were measured."""
    joules_of_jobs: float = 0.0
    """Of these the runs of jobs and the radio: no loading, no speed checks."""
    weighted_joules: float = 0.0
    """The same with what a joule of each device counts: what the energy objectives minimise."""
    nbytes: int = 0
    """Of activations and results."""
    switches: list[Switch] = field(default_factory=list)
    events: int = 0
    """Things that happened in virtual time."""


def play(
    case: Case,
    name: str,
    phases: tuple[Phase, ...] | None,
    arrivals: Sequence[float] | None = None,
    *,
    oracle_loads: bool = False,
) -> Outcome:
    """Run ``case`` with the plans of ``phases``, or with a decision node of its own where that is None.

    ``arrivals`` are seconds of the scenario at which jobs arise, for all streams; None for their own pace.
    With ``oracle_loads`` the oracle's plans wait for what has to be loaded, too, as real devices have it.
    """
    return _Run(case, name, phases, arrivals, oracle_loads=oracle_loads).result()


class _Run:
    def __init__(
        self,
        case: Case,
        name: str,
        phases: tuple[Phase, ...] | None,
        arrivals: Sequence[float] | None,
        *,
        oracle_loads: bool,
    ) -> None:
        self._switches_freely = name == _ORACLE and not oracle_loads
        self._case = case
        self._arrivals = arrivals
        self._phases = phases
        self._outcome = Outcome(name)
        self._mesh = mesh = Mesh(case.scenario.seed)
        self._manifests = [unit_table(model) for model in case.scenario.models_of(case.model)]
        self._began = math.inf
        """When the scenario's time is 0."""
        self._arose: dict[str, tuple[float, PlayedStream]] = {}
        self._streams: list[tuple[str, PlayedStream]] = []
        """With the origin of each."""
        self._routes: dict[str, str] = {}
        self._joules_before: dict[str, float] = defaultdict(float)
        self._radio_before: dict[str, float] = defaultdict(float)
        self._random = Random(f"{case.scenario.seed} jobs")
        mesh.broker.keeps_log = False
        mesh.broker.on_publish = self._published
        self._decider = self._add_decider()
        self._devices = {
            spec.name: BoardDevice(
                mesh, case.scenario, spec, case.boards[spec.name], self._manifests, self._ended
            )
            for spec in case.scenario.devices
        }

    def result(self) -> Outcome:
        """Play it."""
        mesh, scenario = self._mesh, self._case.scenario
        for node in self._devices.values():
            mesh.start_device(node)
        if self._switches_freely:
            for node in self._devices.values():
                node.hardware.speed.load_seconds = node.hardware.speed.first_load_seconds = 0.0
        self._become(0.0)
        mesh.run(1.0)
        first = next(iter(self._devices.values())).shell
        policy = encode_json(scenario.policy)
        for manifest in self._manifests:
            topic = mesh.topics.build("policy", model=manifest.name)
            first.carry_out([Publish(topic, policy, qos=1, retain=True), mesh.manifest_message(manifest)])
        mesh.clock.run_until(mesh.clock.now + PROFILING_SECONDS, self._profiled)
        begin = self._began = mesh.clock.now + WARM_UP_SECONDS
        for stream in scenario.streams:
            self._start_stream(stream)
        for at in scenario.phases:
            mesh.clock.call_at(begin + at, self._begin_phase, at)
        mesh.clock.run_until(begin + scenario.duration)
        self._read_meters(scenario.duration)
        mesh.run(scenario.deadline + 1.0)
        self._outcome.events = mesh.clock.happened
        return self._outcome

    # --- the mesh ----------------------------------------------------------------------------------------

    def _add_decider(self) -> RoleNode:
        if self._phases is None:
            # No gateway is in a scenario: what devices would load for it costs joules and serves nobody.
            return self._mesh.add_decider("hub", make=partial(Decider, plans_app=False))
        first = self._phases[0]
        return self._mesh.add_decider(
            "hub", make=lambda holder, boot, term, topics: ScheduledDecider(holder, boot, term, topics, first)
        )

    def _profiled(self) -> bool:
        wanted = {manifest.digest for manifest in self._manifests}
        return all(
            wanted <= node.role.profiler.published.keys()
            for node in self._devices.values()
            if node.is_present
        )

    def _become(self, at: float) -> None:
        for name, state in states_at(self._case.scenario, at).items():
            self._devices[name].become(state)
        for origin, played in self._streams:
            if not self._devices[origin].is_present:
                played.origin_left()

    def _begin_phase(self, at: float) -> None:
        self._read_meters(at)
        self._become(at)
        phase = next((phase for phase in self._phases or () if phase.at == at), None)
        if phase is not None and at > 0.0:
            held = self._decider.held
            assert isinstance(held, ScheduledDecider)
            self._decider.shell.carry_out(held.publish(phase))

    def _read_meters(self, at: float) -> None:
        """Count what was used since the last reading, with the weights that held until now."""
        policy = self._case.scenario.policy
        for name, node in self._devices.items():
            if at > 0.0:
                self._outcome.joules_of_jobs += node.radio_joules - self._radio_before[name]
            self._radio_before[name] = node.radio_joules
            used = node.joules - self._joules_before[name]
            self._joules_before[name] = node.joules
            if at > 0.0:
                self._outcome.joules += used
                self._outcome.weighted_joules += used * energy_weight(policy, on_battery=node.on_battery)

    def _published(self, connection: ModelledConnection, message: Message) -> None:
        topic = message.topic
        if topic.endswith("/work") or "/reply/" in topic:
            if self._mesh.clock.now >= self._began:
                self._outcome.nbytes += message.nbytes
        elif "/assignment/" in topic and message.payload:
            self._assigned(topic, decode_json(Assignment, message.payload))

    def _assigned(self, topic: str, assignment: Assignment) -> None:
        route = ", ".join(f"{hop.device} to {hop.stop}" for hop in assignment.route)
        known = self._routes.get(topic)
        self._routes[topic] = route
        at = self._mesh.clock.now - self._began
        if known is not None and known != route and at >= 0.0:
            self._outcome.switches.append(
                Switch(at, assignment.model, assignment.origin, route, assignment.reason)
            )

    # --- jobs --------------------------------------------------------------------------------------------

    def _start_stream(self, stream: Stream) -> None:
        scenario = self._case.scenario
        interval = 1.0 / self._case.rate(stream)
        manifest = unit_table(stream.model or self._case.model)
        section = stand_in(section_bytes(manifest.boundaries[0]))
        device = self._devices[stream.origin]
        start = self._began - WARM_UP_SECONDS if stream.start == 0.0 else self._began + stream.start
        stop = self._began + min(stream.stop, scenario.duration)

        def submit(number: int) -> bool:
            if not device.is_present:
                return False  # who is away takes no pictures
            job = f"{stream.name}-{number}"
            self._arose[job] = self._mesh.clock.now, played
            device.shell.deliver(
                JobSubmitted(job, manifest.name, section, scenario.deadline, digest=manifest.digest)
            )
            return True

        times: Iterator[float] = jittered(start, interval, self._random)
        if self._arrivals is not None:
            # The last one to warm it is over before the first one that counts.
            warming = takewhile(lambda at: at + interval <= self._began, count(start, interval))
            told = (self._began + at for at in self._arrivals)
            times = chain(warming, told, (math.inf,))
        played = PlayedStream(self._mesh.clock, times, stop, stream.skips, submit)
        self._streams.append((stream.origin, played))

    def _ended(self, ended: JobEnded) -> None:
        arose, stream = self._arose.pop(ended.job)
        at = arose - self._began
        if at >= 0.0:
            self._outcome.jobs.append(Job(at, ended.seconds, ended.predicted, ended.code))
            for timing, slowdown in zip(ended.timings, slowdowns(self._case.scenario, at, ended.timings)):
                seconds = timing.run + timing.code
                self._outcome.joules_of_jobs += self._devices[timing.device].joules_of_run(seconds, slowdown)
        stream.ended()


Player = Callable[[Case, str, "tuple[Phase, ...] | None"], Outcome]
