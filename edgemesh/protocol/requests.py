"""Questions of operator tools to the decision node, by verb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from edgemesh.errors import DecodeError
from edgemesh.protocol.accuracy import AccuracyBudget
from edgemesh.protocol.activation import CodecName, Cut, check_units
from edgemesh.protocol.fields import Check, Count, Fraction, Id

Factor = Annotated[float, Check("between 0 and 1,000,000", lambda x: 0.0 <= x <= 1e6)]
"""A weight or price: planning multiplies and adds them up."""
ObjectiveName = Literal["latency", "energy", "bounded-energy", "throughput", "money"]
OBJECTIVE_NAMES: Final[tuple[ObjectiveName, ...]] = (
    "latency",
    "energy",
    "bounded-energy",
    "throughput",
    "money",
)


@dataclass(frozen=True)
class PlanRequest:
    """``request/plan``: please plan ``model`` for ``origin`` now, and keep it planned."""

    requester: Id
    model: Id
    origin: Id
    term: Count = 0
    """With ``sequence`` the epoch of the assignment that the requester knows: one of a leader that the broker
    has forgotten is above all that is published since."""
    sequence: Count = 0


@dataclass(frozen=True)
class PlanResponse:
    """``response/plan``: whether an assignment is in force, and if not, why."""

    requester: Id
    model: Id
    origin: Id
    planned: bool
    reason: str
    soon: bool = False
    """Whether it may be planned without anybody doing anything: devices are fetching or measuring it."""


@dataclass(frozen=True)
class Policy:
    """``policy/<model>``: what a person wants kept to when planning."""

    codecs: tuple[CodecName, ...] = ("raw",)
    pins: tuple[Pin, ...] = ()
    exclude: tuple[Id, ...] = ()
    keep_input: bool = False
    """The raw input never leaves the origin."""
    accuracy: AccuracyBudget = AccuracyBudget()  # noqa: RUF009
    """What lossy codecs may do to the outputs."""
    objective: ObjectiveName | None = None
    """None leaves it to the decision node: least energy within a latency bound."""
    bound_factor: Annotated[float, Check("1 to 1000", lambda x: 1.0 <= x <= 1000.0)] | None = None
    """The latency bound, as a multiple of the least latency that there is."""
    bound_seconds: (
        Annotated[float, Check("more than 0, at most a day", lambda x: 0.0 < x <= 86_400.0)] | None
    ) = None
    """A deadline of jobs: takes the place of the factor."""
    in_flight: Annotated[int, Check("1 to 10000", lambda n: 1 <= n <= 10_000)] | None = None
    """Jobs that are under way at once, for the objective throughput."""
    zones: tuple[Zone, ...] = ()
    battery_floor: Fraction | None = None
    """A device on battery below this charge gets no new work."""
    max_temperature: Annotated[float, Check("0 to 150", lambda x: 0.0 <= x <= 150.0)] | None = None
    """Degrees Celsius: a device that is hotter gets no new work."""
    battery_weight: Factor | None = None
    """How often a joule counts that comes from a battery; None leaves it to the decision node."""
    mains_weight: Factor | None = None
    """The same of a joule from the mains, which may be 0; None counts it once."""
    prices: tuple[Price, ...] = ()
    """What devices cost that somebody is paid for."""
    changed_by: str | None = None
    """Who published it, for people."""

    def devices_of(self, pin: Pin) -> frozenset[str]:
        """Devices that ``pin`` names; none where its zone is not among ``zones``."""
        if pin.device is not None:
            return frozenset((pin.device, *pin.also))
        return frozenset(device for zone in self.zones if zone.name == pin.zone for device in zone.devices)


@dataclass(frozen=True)
class Zone:
    """Devices that are trusted with the same things."""

    name: Id
    devices: tuple[Id, ...]


@dataclass(frozen=True)
class Price:
    """What a device costs, in any one currency."""

    device: Id
    per_second: Factor = 0.0
    """Of running units, encoding and decoding."""
    per_gigabyte: Factor = 0.0
    """Of bytes in and out (10^9)."""


@dataclass(frozen=True)
class Pin:
    """Units ``[start, stop)`` run only on the devices named, or only on those of a zone, or never there."""

    start: Cut
    stop: Cut
    device: Id | None = None
    also: tuple[Id, ...] = ()
    """Further devices that may run them."""
    zone: Id | None = None
    """Instead of devices: those of this zone of the policy."""
    never: bool = False
    """Anywhere but there, instead of only there."""

    def __post_init__(self) -> None:
        """Raise DecodeError where it holds no unit, or names neither a device nor a zone, or both."""
        check_units(self.start, self.stop)
        if (self.device is None) == (self.zone is None):
            raise DecodeError(f"the pin of units {self.start}-{self.stop} must name a device or a zone")
