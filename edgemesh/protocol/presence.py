"""What a device says of itself: state, about, heartbeat, resources, profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from edgemesh.errors import DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.activation import Cut, check_units
from edgemesh.protocol.fields import Amount, Check, Count, Digest, Fraction, Id, Seconds
from edgemesh.protocol.meter import PlugStatus

State = Literal["online", "stopped", "offline"]
STATES: Final[tuple[State, ...]] = ("online", "stopped", "offline")


def decode_state(payload: bytes | bytearray | memoryview) -> State:
    """The text of ``device/<id>/state``; raises DecodeError."""
    for state in STATES:
        if bytes(payload[:16]) == state.encode() and len(payload) < 16:
            return state
    raise DecodeError(f"state must be one of {', '.join(STATES)}, not {bytes(payload[:20])!r}")


@dataclass(frozen=True)
class HeldModel:
    """Content that a device has on disk."""

    name: Id
    digest: Digest


@dataclass(frozen=True)
class CodecSpeed:
    """Measured: what a codec costs on one device, in seconds per byte of the tensors as they are."""

    codec: str
    """As in a route, ``+zstd`` included. A reader ignores one that it does not know."""
    encode: Seconds
    decode: Seconds


@dataclass(frozen=True)
class About:
    """Retained self-description of a device; valid while its state is ``online``."""

    boot: Id
    software: str
    board: str
    runtimes: dict[str, str]
    """Runtime name to version."""
    threads: Count
    memory_bytes: Count
    """What its executor may use for weights and activations."""
    models: tuple[HeldModel, ...] = ()
    emulated: bool = False
    minor: Count = 0
    """Minor version of the wire contract."""
    codecs: tuple[CodecSpeed, ...] = ()
    """Those that it can use; empty where it does not say."""


@dataclass(frozen=True)
class ReadyPartition:
    """Units loaded and warmed, so that a route over them costs no job anything."""

    digest: Digest
    start: Cut
    stop: Cut

    def __post_init__(self) -> None:
        """Raise DecodeError where it holds no unit."""
        check_units(self.start, self.stop)


@dataclass(frozen=True)
class Heartbeat:
    """Sign of life every two seconds."""

    boot: Id
    seq: Count
    queue: Count
    """Jobs waiting or running."""
    queued_seconds: Amount
    """Predicted seconds of work waiting."""
    busy: Fraction
    ready: tuple[ReadyPartition, ...] = ()


Watts = Annotated[float, Check("between 0 and 10,000", lambda x: 0.0 <= x <= 10_000.0)]


@dataclass(frozen=True)
class PowerFigures:
    """Watts of the whole device at the two ends of its load, absolute."""

    idle_watts: Watts
    busy_watts: Watts
    """With all cores busy."""
    radio_watts: Watts = 0.0
    """In addition, while it sends or receives."""
    source: str = ""
    """Such as ``board pi-4b``, ``rapl`` or ``plug tasmota``."""
    learned: bool = False
    """Whether they come from metered samples of this very device, and not from its board's profile."""
    error: Amount | None = None
    """Likely relative error of busy less idle, where they were learned."""
    check: Amount | None = None
    """Energy that the plug measured over minutes, as a multiple of what the model says. Figures of a board's
    profile are scaled by it already where it is steady."""

    def __post_init__(self) -> None:
        """Raise DecodeError where the load would lower the watts: no plan may earn energy by working."""
        if self.busy_watts < self.idle_watts:
            raise DecodeError(f"busy_watts {self.busy_watts:g} is less than idle_watts {self.idle_watts:g}")


@dataclass(frozen=True)
class Resources:
    """What the machine has left; units in the names, watts with their source."""

    cpu: Fraction
    memory_total: Count
    memory_available: Count
    temperature: float | None = None
    """Degrees Celsius."""
    throttled: tuple[str, ...] = ()
    watts: Amount | None = None
    watts_source: str | None = None
    battery: Fraction | None = None
    on_battery: bool | None = None
    power: PowerFigures | None = None
    """What the decision node plans with; None where neither a board's profile nor a meter tells."""
    plug: PlugStatus | None = None
    power_notes: tuple[str, ...] = ()
    """Why a meter is not used, or what its figure leaves out."""
    own: Fraction | None = None
    """Share of the time that ``cpu`` covers in which its executor was at work; None where it does not say."""


@dataclass(frozen=True)
class MeasuredRun:
    """A run of several units, measured as one: it takes another time than the sum of its units."""

    start: Cut
    stop: Cut
    seconds: Seconds

    def __post_init__(self) -> None:
        """Raise DecodeError where it holds no unit."""
        check_units(self.start, self.stop)


@dataclass(frozen=True)
class Profile:
    """Measured seconds per unit for one (device, model, runtime, threads)."""

    digest: Digest
    runtime: str
    runtime_version: str
    threads: Count
    seconds: tuple[Annotated[float, Check("more than 0, at most a day", lambda x: 0.0 < x <= 86_400.0)], ...]
    """Median per unit."""
    spread: tuple[Seconds, ...] = ()
    """Half the interquartile range per unit, in seconds."""
    runs: tuple[MeasuredRun, ...] = ()
    emulated: bool = False

    def __post_init__(self) -> None:
        """Raise DecodeError for a profile of no or too many units, or figures for units it does not have."""
        units = len(self.seconds)
        if not 1 <= units <= limits.UNITS:
            raise DecodeError(f"profile of {units} units, not 1 to {limits.UNITS}")
        if len(self.spread) not in (0, units):
            raise DecodeError(f"profile of {units} units with the spread of {len(self.spread)}")
        if any(run.stop > units for run in self.runs):
            raise DecodeError(f"profile of {units} units with a run past the last")
