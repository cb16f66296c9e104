"""Scenario: devices, streams of jobs, and what changes when; each figure with where it is from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from edgemesh.protocol.activation import Timing
from edgemesh.protocol.requests import Policy


@dataclass(frozen=True)
class SimulatedDevice:
    """One device at the start."""

    name: str
    board: str
    """Of ``firmware_profiles`` or the person's own."""
    load: float = 0.0
    """Share of the machine that other programs take."""
    battery: float | None = None
    """Charge, 0 to 1; None on mains."""
    rate_up: float | None = None
    """Bytes per second, in place of the board's figures."""
    rate_down: float | None = None
    delay: float | None = None
    """Seconds each way, in place of the board's figure."""
    source: str = ""


@dataclass(frozen=True)
class Stream:
    """Jobs that arise on one device at a steady pace."""

    name: str
    origin: str
    model: str | None = None
    """None is the model that is simulated."""
    per_second: float | None = None
    busy: float | None = None
    """Instead: the share of time that its jobs keep the busiest device or link of the best plan at the start
    busy. So one file does for models of any size."""
    most: float = math.inf
    """Jobs per second that ``busy`` makes at most."""
    start: float = 0.0
    stop: float = math.inf
    source: str = ""
    skips: bool = False
    """Whether a frame that comes while the job before is under way waits half an interval at most."""


@dataclass(frozen=True)
class Change:
    """What is different on one device from ``at`` on; what is None stays as it was."""

    at: float
    device: str
    rate: float | None = None
    """Times the rates at the start, both directions."""
    delay: float | None = None
    """Seconds each way."""
    load: float | None = None
    clock: float | None = None
    """Share of its full speed that a hot processor has left."""
    battery: float | None = None
    present: bool | None = None
    source: str = ""
    killed: bool = False
    """Of one that leaves: only its agent ends, and the broker learns of it at once by TCP. Else the machine
    falls silent, as when the plug is pulled."""


@dataclass(frozen=True)
class Scenario:
    """What a simulation is of."""

    name: str
    description: str
    duration: float
    """Seconds, from when everything is planned and loaded."""
    devices: tuple[SimulatedDevice, ...]
    streams: tuple[Stream, ...]
    changes: tuple[Change, ...] = ()
    """Ascending by time."""
    models: tuple[str, ...] = ("mobilenetv2",)
    """Each is simulated on its own, as the model of all streams that name none."""
    seed: int = 1
    policy: Policy = field(default_factory=Policy)
    run_jitter: float = 0.03
    """Standard deviation of a run's time, as a share of it."""
    link_jitter: float = 0.05
    """The same of a message's time under way."""
    deadline: float = 30.0
    """Seconds that each job has."""

    @property
    def phases(self) -> tuple[float, ...]:
        """When something changes, 0 first: between two of them all true figures stay the same."""
        times = {0.0, *(change.at for change in self.changes)}
        for stream in self.streams:
            times |= {stream.start, stream.stop}
        return tuple(sorted(time for time in times if 0.0 <= time < self.duration))

    def models_of(self, model: str) -> tuple[str, ...]:
        """Every model that runs when ``model`` is simulated, each once."""
        return tuple(dict.fromkeys(stream.model or model for stream in self.streams))


@dataclass(frozen=True)
class DeviceState:
    """The truth about one device at one moment."""

    present: bool = True
    rate: float = 1.0
    delay: float | None = None
    """None is the board's own."""
    load: float = 0.0
    clock: float = 1.0
    battery: float | None = None
    killed: bool = False
    """How it left."""

    @property
    def slowdown(self) -> float:
        """What a run takes to what it takes on the idle machine at full clock."""
        return 1.0 / ((1.0 - self.load) * self.clock)

    def after(self, change: Change) -> DeviceState:
        """The state from the change on."""
        fields = ("present", "rate", "delay", "load", "clock", "battery")
        changed = {name: getattr(change, name) for name in fields if getattr(change, name) is not None}
        if change.present is not None:
            changed["killed"] = change.killed
        return replace(self, **changed)


def states_at(scenario: Scenario, time: float) -> dict[str, DeviceState]:
    """The truth about every device at ``time``."""
    states = {
        device.name: DeviceState(delay=device.delay, load=device.load, battery=device.battery)
        for device in scenario.devices
    }
    for change in scenario.changes:
        if change.at <= time:
            states[change.device] = states[change.device].after(change)
    return states


def slowdowns(scenario: Scenario, at: float, timings: Iterable[Timing]) -> list[float]:
    """How much slower the device of each hop was when its run began, for a job that arose at ``at``.

    The way between devices is not counted: it is short beside the phases of a scenario.
    """
    found = []
    for timing in timings:
        at += timing.queue
        found.append(states_at(scenario, at)[timing.device].slowdown)
        at += timing.run + timing.code
    return found
