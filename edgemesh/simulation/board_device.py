"""One device of a simulation: a board that changes as the scenario says, with meters of its own."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from edgemesh.device.boards import Board
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import MeasuredRun, PowerFigures, Profile, Resources
from edgemesh.roles.actions import JobEnded
from edgemesh.simulation.board_machine import BoardSpeed, link_in, set_link, start_link
from edgemesh.simulation.mesh import DeviceNode, Hardware, Mesh
from edgemesh.simulation.scenario import DeviceState, Scenario, SimulatedDevice
from edgemesh.simulation.sections import section_after

_PREFIXES = 8
START_SECONDS = 0.5
"""From the start of an agent's process until it connects; measured on the testbed's machine."""
_COOL, _HOT = 55.0, 84.0
"""Degrees that a simulated board reports at full clock, and at a lower one."""


class BoardDevice(DeviceNode):
    """A ``DeviceNode`` on a board."""

    def __init__(
        self,
        mesh: Mesh,
        scenario: Scenario,
        spec: SimulatedDevice,
        board: Board,
        manifests: list[Manifest],
        on_job: Callable[[JobEnded], None],
    ) -> None:
        self._scenario = scenario
        self._board = board
        self._random = Random(f"{scenario.seed} link {spec.name}")
        self._start_link = start_link(spec, board)
        self._board_speed = BoardSpeed(board, manifests, scenario.run_jitter)
        self._on_job = on_job
        self._state = DeviceState()
        self._earlier_effort = self._earlier_airtime = 0.0
        self._read_at = mesh.clock.now
        self._read_busy = 0.0
        hardware = Hardware(
            self._board_speed,
            start_link(spec, board),
            board.name,
            tuple({manifest.format: "simulated" for manifest in manifests}.items()),
            board.cores,
            board.memory_bytes,
            section_after,
        )
        super().__init__(mesh, spec.name, hardware)
        for manifest in manifests:
            self.disk.whole[manifest.digest] = manifest, b""
            self.disk.profiles[manifest.digest] = self._earlier_profile(manifest)

    def start(self) -> None:
        """The agent starts."""
        super().start()
        self.shell.handlers[JobEnded] = self._on_job
        self.executor.runs = None
        self._read_busy = 0.0

    def become(self, state: DeviceState) -> None:
        """Be as ``state`` from now on; leaving is sudden."""
        before, self._state = self._state, state
        self._board_speed.slowdown = state.slowdown
        set_link(self.link, link_in(state, self._start_link), self._random, self._scenario.link_jitter)
        if not state.present and self.is_present:
            self._close_meters()
            if state.killed:
                self.kill()
            else:
                self.cut_power()
        elif state.present and not before.present:
            self._mesh.clock.call_later(START_SECONDS, self._start_again)

    def _start_again(self) -> None:
        if self._state.present and not self.is_present:
            self.restart()

    def _earlier_profile(self, manifest: Manifest) -> Profile:
        """What the profiler left on disk in an earlier life: measured on the idle board, with its noise."""
        noise = Random(f"{self._scenario.seed} profile {self.name} {manifest.name}")
        jitter = self._scenario.run_jitter
        units = manifest.unit_count

        def measured(start: int, stop: int) -> float:
            return self._board_speed.of(manifest.digest, start, stop) * max(0.2, noise.gauss(1.0, jitter))

        seconds = tuple(measured(unit, unit + 1) for unit in range(units))
        runs = [(0, units), *((0, cut) for cut in range(2, units, max(1, units // _PREFIXES)))]
        return Profile(
            manifest.digest,
            manifest.format,
            "simulated",
            self._board.cores,
            seconds,
            tuple(jitter * each for each in seconds),
            tuple(MeasuredRun(start, stop, measured(start, stop)) for start, stop in runs),
        )

    @property
    def is_present(self) -> bool:
        """Whether it is switched on and its agent runs."""
        return self.shell.alive

    @property
    def joules(self) -> float:
        """Above idle, since the start: of everything that ran, and of the radio."""
        effort = self._earlier_effort
        if self.is_present:
            effort += self.executor.effort_seconds
        return effort * self._busy_watts + self.radio_joules

    @property
    def radio_joules(self) -> float:
        """Of these, the radio's."""
        airtime = self._earlier_airtime + (self._airtime if self.is_present else 0.0)
        return airtime * (self._board.radio_watts or 0.0)

    def joules_of_run(self, seconds: float, slowdown: float) -> float:
        """Above idle, of a run that took so long while the device was so many times slower."""
        return seconds / slowdown * self._busy_watts

    @property
    def _busy_watts(self) -> float:
        return (self._board.busy_watts or 0.0) - (self._board.idle_watts or 0.0)

    @property
    def on_battery(self) -> bool:
        """Whether it has a battery."""
        return self._state.battery is not None

    def read_resources(self) -> Resources:
        """What the machine says of itself."""
        now = self._mesh.clock.now
        busy = self.executor.busy_until(now)
        own = (busy - self._read_busy) / max(now - self._read_at, 1e-3)
        self._read_at, self._read_busy = now, busy
        state, board = self._state, self._board
        cpu = min(1.0, state.load + min(own, 1.0) * (1.0 - state.load))
        hot = state.clock < 1.0
        idle, most = board.idle_watts, board.busy_watts
        power = None
        if idle is not None and most is not None:
            power = PowerFigures(idle, most, board.radio_watts or 0.0, f"board {board.name}")
        return Resources(
            cpu,
            board.memory_bytes,
            board.memory_bytes // 2,
            _HOT if hot else _COOL,
            ("frequency-capped",) if hot else (),
            battery=state.battery,
            on_battery=None if state.battery is None else True,
            power=power,
        )

    @property
    def _airtime(self) -> float:
        return self.shell.connection.airtime if self.shell.connection is not None else 0.0

    def _close_meters(self) -> None:
        self._earlier_effort += self.executor.effort_seconds
        self._earlier_airtime += self._airtime
