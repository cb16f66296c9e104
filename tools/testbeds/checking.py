"""Whether emulated boards and links take as long as the real ones would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgemesh.device.boards import Board
from edgemesh.device.emulation import arithmetic_dtype
from edgemesh.protocol.manifest import Manifest
from testbeds.links import LinkFigures

TOLERANCE = 0.1
_DELAY_TOLERANCE = 0.0005
"""Seconds: the broker and the programs on both ends take some time as well."""
HEADROOM = 1.25
"""The fastest board takes at least so many times what this machine does: it has other things to do, too."""
_PROFILE_TOLERANCE = 0.005
"""A profile of a board within this machine's reach is the board's to the last digit."""
_PROFILE_HEADROOM = 1.05
"""Less than ``HEADROOM``: a profile was made where jobs run, beside everything else."""


@dataclass(frozen=True)
class Check:
    """One device running one model from its first unit to its last."""

    device: str
    board: str
    model: str
    board_seconds: float
    """What the board would take, times the time scale."""
    measured_seconds: float
    """Median of jobs through the agent and its executor."""

    @property
    def ratio(self) -> float:
        """Measured over wanted."""
        return self.measured_seconds / self.board_seconds

    @property
    def holds(self) -> bool:
        """Whether the two are at most ``TOLERANCE`` apart."""
        return abs(self.ratio - 1.0) <= TOLERANCE


@dataclass(frozen=True)
class LinkCheck:
    """One device's link, measured with messages between it and the broker; bytes per second and seconds."""

    device: str
    wanted: LinkFigures
    measured: LinkFigures

    @property
    def holds(self) -> bool:
        """Whether both rates are at most ``TOLERANCE`` apart, and the delay too or by half a millisecond."""
        rates = (self.measured.up / self.wanted.up, self.measured.down / self.wanted.down)
        late = abs(self.measured.delay - self.wanted.delay)
        return all(abs(ratio - 1.0) <= TOLERANCE for ratio in rates) and late <= max(
            TOLERANCE * self.wanted.delay, _DELAY_TOLERANCE
        )


def board_seconds(board: Board, manifest: Manifest) -> float | None:
    """Seconds of the whole model on the real board; None where it has no speed or the model no operations."""
    dtype = arithmetic_dtype(manifest.boundaries)
    speed = board.speed(manifest.format, dtype) or board.speed(manifest.format, "float32")
    macs = sum(unit.macs for unit in manifest.units)
    return macs / speed if speed and macs else None


def time_scale(here: float, wanted: list[float]) -> float:
    """How many times slower all boards must be for the fastest to be within reach of this machine.

    ``here`` is what this machine takes for a model, ``wanted`` what each board would; at least 1.
    """
    return max([1.0, *(HEADROOM * here / seconds for seconds in wanted)])


def raised_time_scale(scale: float, boards: Iterable[tuple[float, float]]) -> float:
    """``scale``, or what it takes for the boards that this machine could not keep up with.

    ``boards`` has, of each board and model, the seconds of its profile and those that the real board takes.
    A profile is longer than ``scale`` times those where this machine itself took longer.
    """
    late = [
        profiled / real for profiled, real in boards if profiled > scale * real * (1 + _PROFILE_TOLERANCE)
    ]
    return max([scale, *(_PROFILE_HEADROOM * times for times in late)])


def check_table(checks: list[Check]) -> str:
    """For people."""
    rows = [("device", "board (emulated)", "model", "wanted", "measured", "ratio", "within 10 %")]
    rows += [
        (
            check.device,
            check.board,
            check.model,
            f"{check.board_seconds * 1e3:.1f} ms",
            f"{check.measured_seconds * 1e3:.1f} ms",
            f"{check.ratio:.3f}",
            "yes" if check.holds else "NO",
        )
        for check in checks
    ]
    return _aligned(rows)


def link_table(checks: list[LinkCheck]) -> str:
    """For people."""
    rows = [
        (
            "device",
            "up wanted",
            "measured",
            "down wanted",
            "measured",
            "delay wanted",
            "measured",
            "within 10 %",
        )
    ]
    for check in checks:
        cells = [check.device]
        for name, form in (("up", _rate), ("down", _rate), ("delay", _delay)):
            cells += [form(getattr(check.wanted, name)), form(getattr(check.measured, name))]
        rows.append((*cells, "yes" if check.holds else "NO"))
    return _aligned(rows)


def _rate(value: float) -> str:
    return f"{value / 1e6:.3f} MB/s"


def _delay(value: float) -> str:
    return f"{value * 1e3:.2f} ms"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)
