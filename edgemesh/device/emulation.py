"""Arithmetic of emulated boards: how long their units take, when their bytes arrive.

Pure: measured seconds and the current time are arguments, nothing waits here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgemesh.device.boards import Board, Link
from edgemesh.errors import SettingsError
from edgemesh.protocol.manifest import Boundary, Unit

_EIGHT_BIT = frozenset({"int8", "uint8"})
_SUBSTITUTE_DTYPE = "float32"


def arithmetic_dtype(boundaries: Sequence[Boundary]) -> str:
    """``int8`` when most elements alive at the inner cuts are 8-bit, else ``float32``: the key of a speed.

    The ends do not count: a quantised model may take and give floats. Weights of 16 bits do not count
    either: on a processor both runtimes compute with them as float32.
    """
    inner = boundaries[1:-1] or boundaries
    counts = [(tensor.dtype in _EIGHT_BIT, tensor.elements) for cut in inner for tensor in cut]
    eight_bit = sum(count for is_eight_bit, count in counts if is_eight_bit)
    return "int8" if 2 * eight_bit > sum(count for _, count in counts) else "float32"


@dataclass(frozen=True)
class EmulatedBoard:
    """A board's time for each unit of one model; made by ``emulated_board``."""

    board: Board
    factor: float
    """How many times slower than this machine, at least 1."""
    seconds: tuple[float, ...]
    """Per unit."""
    warnings: tuple[str, ...] = ()
    """One sentence for each way in which the emulation falls short of the board."""


def emulated_board(
    board: Board,
    units: Sequence[Unit],
    measured: Sequence[float],
    runtime: str,
    dtype: str,
    *,
    whole_seconds: float | None = None,
    here: Board | None = None,
    slower: float = 1.0,
) -> EmulatedBoard:
    """``board`` on a model whose units took ``measured`` seconds each on this machine.

    The whole model takes the board ``macs / speed(runtime, dtype)``; a unit's share of that is its share of
    the time on this machine. So units without multiply-accumulates (pooling, resizing, moving) keep a time,
    which ``macs / speed`` per unit would lose; what remains wrong is that a board with slow memory is slowed
    down there no more than elsewhere. The shipped speeds for tflite are of networks such as MobileNet, and
    dense convolutions reach more (torch on 2 x86_64 cores: MobileNet v2 12.9, ResNet-18 57.6 GMAC/s), so a
    model of those is emulated slower than the real board would run it.

    ``whole_seconds`` is the measured time of the model in one run, by default the sum of its units.
    Without multiply-accumulates the factor is the ratio of the speeds of ``here`` (this machine's board) and
    ``board``, or 1 where that is unknown. Each time is ``slower`` times that of the board, so that boards
    which are faster than this machine keep their proportions to slower ones. Raises SettingsError when the
    board has no speed for ``runtime``.
    """
    assert len(units) == len(measured), "one measured time for each unit"
    measured_sum = sum(measured)
    whole = measured_sum if whole_seconds is None else whole_seconds
    assert whole > 0.0 and measured_sum > 0.0, "a model takes time"
    warnings: list[str] = []
    speed, speed_dtype = _speed(board, runtime, dtype, warnings)
    macs = sum(unit.macs for unit in units)
    if macs:
        factor = slower * macs / speed / whole
    else:
        factor = slower * _ratio_without_macs(board, here, runtime, speed_dtype, warnings)
    if factor < 1.0:
        warnings.append(
            f"{board.name} would take {factor * whole * 1e3:.3g} ms for this model and this machine takes "
            f"{whole * 1e3:.3g} ms: it is emulated at the speed of this machine"
        )
        factor = 1.0
    weights = sum(unit.weight_bytes for unit in units)
    if weights > board.memory_bytes:
        warnings.append(
            f"the weights of this model have {weights / 1e6:.0f} MB, more than the memory of {board.name} "
            f"({board.memory_bytes / 1e6:.0f} MB)"
        )
    scale = factor * whole / measured_sum
    return EmulatedBoard(board, factor, tuple(seconds * scale for seconds in measured), tuple(warnings))


def _speed(board: Board, runtime: str, dtype: str, warnings: list[str]) -> tuple[float, str]:
    if (speed := board.speed(runtime, dtype)) is not None:
        return speed, dtype
    if (speed := board.speed(runtime, _SUBSTITUTE_DTYPE)) is not None:
        warnings.append(
            f"{board.name} has no speed for {runtime} with {dtype}: that for {_SUBSTITUTE_DTYPE} is used"
        )
        return speed, _SUBSTITUTE_DTYPE
    raise SettingsError(
        f"board {board.name} has no speed for {runtime} with {dtype}: "
        f"add speed.{runtime}.{_SUBSTITUTE_DTYPE} to its file"
    )


def _ratio_without_macs(
    board: Board, here: Board | None, runtime: str, dtype: str, warnings: list[str]
) -> float:
    speed, speed_here = board.speed(runtime, dtype), here.speed(runtime, dtype) if here else None
    if speed is not None and speed_here is not None:
        return speed_here / speed
    warnings.append(
        f"this model has no multiply-accumulates and the speed of this machine is unknown: "
        f"{board.name} is emulated at the speed of this machine"
    )
    return 1.0


@dataclass
class SerialLink:
    """One direction of a connection, which carries one message after the other."""

    bytes_per_second: float
    delay: float
    """Seconds, one way."""
    _free_at: float = field(default=float("-inf"), init=False)

    def deliver_at(self, now: float, nbytes: int) -> float:
        """When the last byte of a message handed over at ``now`` arrives; the link is busy until then less
        the delay."""
        self._free_at = max(now, self._free_at) + nbytes / self.bytes_per_second
        return self._free_at + self.delay


class LinkShaper:
    """A board's own connection: what it sends and what it receives do not hold each other up.

    Wi-Fi shares the air between both directions, but the published rates are of one direction alone.
    """

    def __init__(self, link: Link) -> None:
        self._up = SerialLink(link.up_bytes_per_second, link.delay_up)
        self._down = SerialLink(link.down_bytes_per_second, link.delay_down)

    def send_at(self, now: float, nbytes: int) -> float:
        """When a message of ``nbytes`` that the board sends at ``now`` reaches the broker."""
        return self._up.deliver_at(now, nbytes)

    def receive_at(self, now: float, nbytes: int) -> float:
        """When a message of ``nbytes`` that the broker sends at ``now`` reaches the board."""
        return self._down.deliver_at(now, nbytes)
