"""Boards as machines of a simulation: how fast they run models, what they draw, how they are connected."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import numpy as np

from edgemesh.device.boards import Board
from edgemesh.device.emulation import arithmetic_dtype
from edgemesh.errors import SettingsError
from edgemesh.planning.instance import FloatArray
from edgemesh.protocol.manifest import Manifest
from edgemesh.simulation.links import Link
from edgemesh.simulation.scenario import DeviceState, SimulatedDevice

OPERATOR_SECONDS = 20e-6
"""What an interpreter takes for each operator on top of its arithmetic, on a core of ``_OPERATOR_CLOCK``;
assumed. It keeps units without multiply-accumulates from taking no time at all."""
_OPERATOR_CLOCK = 2.45e9
LOAD_SECONDS = 0.2
"""Of a partition: a run to warm it, for the most part; VGG16 on the testbed's machine."""
FIRST_LOAD_SECONDS = 0.7
"""What the first one takes besides: a runtime is imported. Measured with torch on the testbed's machine."""


def unit_seconds(manifest: Manifest, board: Board) -> FloatArray:
    """``seconds[u]`` on the idle board: operation counts over its speed for the runtime and dtype.

    Raises SettingsError when the board has no speed for them.
    """
    dtype = arithmetic_dtype(manifest.boundaries)
    speed = board.speed(manifest.format, dtype) or board.speed(manifest.format, "float32")
    if speed is None:
        raise SettingsError(
            f"board {board.name} has no speed for {manifest.format} with {dtype}: "
            f"add speed.{manifest.format}.{dtype} to its file"
        )
    per_operator = OPERATOR_SECONDS * _OPERATOR_CLOCK / (board.clock_hz or _OPERATOR_CLOCK)
    return np.array([unit.macs / speed + unit.operators * per_operator for unit in manifest.units])


class BoardSpeed:
    """How fast one board runs models now."""

    def __init__(self, board: Board, manifests: Iterable[Manifest], jitter: float) -> None:
        self.jitter = jitter
        self.load_seconds = LOAD_SECONDS
        self.first_load_seconds = FIRST_LOAD_SECONDS
        self.slowdown = 1.0
        # Before each cut: the sum of the units before it.
        self._before = {
            m.digest: np.concatenate(([0.0], np.cumsum(unit_seconds(m, board)))).tolist() for m in manifests
        }

    @property
    def effort(self) -> float:
        """Share of the watts above idle that count while a run lasts.

        At a lower clock the processor draws at least in proportion less. Where other programs take a share of
        the machine it draws that without the run as well, so only the rest is the run's. Either way a run
        that takes longer costs as many joules as before.
        """
        return 1.0 / self.slowdown

    def of(self, digest: str, start: int, stop: int) -> float:
        """Seconds of a run now."""
        before = self._before[digest]
        return (before[stop] - before[start]) * self.slowdown  # type: ignore[no-any-return]


def start_link(device: SimulatedDevice, board: Board) -> Link:
    """The device's connection at the start, without noise; raises SettingsError when its board has none."""
    known = board.link
    if known is None:
        raise SettingsError(f"board {board.name} has no [link]: give devices.{device.name} rates and delay")
    return Link(
        known.delay_up if device.delay is None else device.delay,
        device.rate_up or known.up_bytes_per_second,
        device.rate_down or known.down_bytes_per_second,
    )


def link_in(state: DeviceState, start: Link) -> Link:
    """What the connection ``start`` has become, without noise."""
    latency = start.latency if state.delay is None else state.delay
    return Link(latency, start.rate_up * state.rate, start.rate_down * state.rate)


def set_link(link: Link, wanted: Link, random: Random, jitter: float) -> None:
    """Let ``link``, which is in use, be as ``wanted`` from now on."""
    link.latency, link.rate_up, link.rate_down = wanted.latency, wanted.rate_up, wanted.rate_down
    link.random, link.jitter = random, jitter
