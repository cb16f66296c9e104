"""Plays a scenario on a testbed: its streams run, its changes come, and what happened is kept."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.report import NotMeasurableError

from edgemesh.errors import EdgemeshError
from edgemesh.node.client import Client
from edgemesh.observe.plan_table import route_text
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import encode_json
from edgemesh.runtime.made_up import made_up_inputs
from edgemesh.simulation.scenario import DeviceState, Scenario, Stream, states_at
from testbeds.bed import MESH, Bed
from testbeds.links import LinkFigures
from testbeds.stream import due_times
from testbeds.told_jobs import ToldJobs

_PLAN_SECONDS = 60.0
_LEAD_SECONDS = 3.0
"""For the programs of the streams to start before their first job."""
_MOST_LOAD = 0.99


@dataclass
class Played:
    """What came of it; seconds of the scenario's clock."""

    jobs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By stream, as ``stream.py`` prints them."""
    switches: list[tuple[float, str, str]] = field(default_factory=list)
    """When, route and reason of each assignment with another route than the one before."""


class Player:
    """One scenario on one bed, whose models are added and profiled and whose decision node runs."""

    def __init__(self, bed: Bed, scenario: Scenario, model: str, log: Callable[[str], None]) -> None:
        self.played = Played()
        self._bed = bed
        self._scenario = scenario
        self._model = model
        self._log = log
        self._routes: dict[tuple[str, str], str] = {}
        self._links = {name: bed.true_link(name) for name in bed.devices}
        self._states: Mapping[str, DeviceState] = {}
        self._began = math.inf

    def publish_policy(self) -> None:
        """Tell the mesh what the scenario wants; before the decision node starts."""
        for name in self._scenario.models_of(self._model):
            topic = self._bed.topics.build("policy", model=name)
            self._bed.observer.publish(topic, encode_json(self._scenario.policy))

    def play(self, duration: float) -> Played:
        """Until ``duration`` seconds of the scenario have passed; raises NotMeasurableError when the program
        of a stream dies."""
        self._bed.observer.on_assignment = self._assigned
        self._become(0.0)
        rates = {stream.name: self._rate(stream) for stream in self._scenario.streams}
        self._began = time.monotonic() + _LEAD_SECONDS
        told = {
            stream.name: self._start(stream, rates[stream.name], duration)
            for stream in self._scenario.streams
        }
        for at in self._scenario.phases:
            if 0.0 < at < duration:
                self._sleep_until(at)
                self._become(at)
        self._sleep_until(duration)
        self.played.jobs = {name: its.all() for name, its in told.items()}
        return self.played

    # --- streams -------------------------------------------------------------------------------------------

    def _rate(self, stream: Stream) -> float:
        """Jobs per second here: those of the scenario, slower by the time scale."""
        model = stream.model or self._model
        assignment = self._first_assignment(model, stream.origin)
        if stream.per_second is not None:
            return stream.per_second / self._bed.time_scale
        assert stream.busy is not None
        most = stream.most / self._bed.time_scale
        busiest = max(assignment.bottleneck, 1e-6)
        return min(stream.busy / busiest, most)

    def _first_assignment(self, model: str, origin: str) -> Assignment:
        """A job for an origin makes the decision node plan for it."""
        bed, key = self._bed, (model, origin)
        directory = bed.directory(origin)
        ends = time.monotonic() + _PLAN_SECONDS
        with Client(mesh=MESH, origin=origin, device_directory=directory) as mesh:
            given = made_up_inputs(mesh.manifest(model).boundaries[0])
            while key not in bed.observer.assignments and time.monotonic() < ends:
                try:
                    mesh.infer(model, given)
                except EdgemeshError as error:
                    self._log(f"first job of {origin}: {error}")
                bed.observer.wait(lambda: key in bed.observer.assignments, 1.0)
        if key not in bed.observer.assignments:
            raise NotMeasurableError(f"no assignment of {model} for {origin} within {_PLAN_SECONDS:.0f} s")
        return bed.observer.assignments[key]

    def _start(self, stream: Stream, rate: float, duration: float) -> ToldJobs:
        self._log(f"stream {stream.name}: {rate:.3g} jobs per second from {stream.origin}")
        begin, end = self._began + stream.start, self._began + min(stream.stop, duration)
        command = [sys.executable, "-m", "testbeds.stream", stream.origin]
        command += [str(self._bed.directory(stream.origin)), stream.model or self._model]
        process = self._bed.popen([*command, repr(rate), repr(begin), repr(end)], stream.origin)
        count = sum(1 for _ in due_times(rate, begin, end))
        return ToldJobs(f"the program of stream {stream.name}", process, count)

    # --- changes -------------------------------------------------------------------------------------------

    def _become(self, at: float) -> None:
        states = states_at(self._scenario, at)
        for device, state in states.items():
            before = self._states.get(device, DeviceState())
            if state != before:
                self._change(device, before, state, at)
        self._states = states

    def _change(self, device: str, before: DeviceState, state: DeviceState, at: float) -> None:
        bed, start = self._bed, self._links[device]
        delay = start.delay if state.delay is None else state.delay
        bed.set_link(device, start.up * state.rate, start.down * state.rate, delay)
        bed.set_load(device, min(_MOST_LOAD, 1.0 - 1.0 / state.slowdown))
        if before.present and not state.present:
            bed.leave(device)
        elif state.present and not before.present:
            bed.come_back(device)
        self._log(f"{at:7.1f} s  {device}: {_state_text(state, start)}")

    def _sleep_until(self, at: float) -> None:
        time.sleep(max(0.0, self._began + at - time.monotonic()))

    def _assigned(self, assignment: Assignment) -> None:
        key = assignment.model, assignment.origin
        route = route_text(assignment.route)
        if self._routes.get(key) == route:
            return
        first = key not in self._routes
        self._routes[key] = route
        at = time.monotonic() - self._began
        if not first and at >= 0.0:
            self.played.switches.append((at, route, assignment.reason))
        when = f"{at:7.1f} s" if at >= 0.0 else "  before"
        self._log(f"{when}  {assignment.model} for {assignment.origin}: {route}; {assignment.reason}")


def _state_text(state: DeviceState, start: LinkFigures) -> str:
    if not state.present:
        return "gone"
    delay = start.delay if state.delay is None else state.delay
    text = f"{state.slowdown:.2f} times as slow, rate x {state.rate:g}, delay {delay * 1e3:.3g} ms"
    return text if state.battery is None else f"{text}; its battery is not emulated"
