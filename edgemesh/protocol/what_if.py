"""Questions about plans that change nothing: what if the mesh were another, what else, what binds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from edgemesh.errors import DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.activation import Hop, check_route
from edgemesh.protocol.assignment import HopPrediction
from edgemesh.protocol.fields import Amount, Check, Count, Fraction, Id
from edgemesh.protocol.presence import Watts

Rate = Annotated[float, Check("between 0.001 and 1e18", lambda x: 0.001 <= x <= 1e18)]
Delay = Annotated[float, Check("between 0 and 10", lambda x: 0.0 <= x <= 10.0)]

# --- what would be different -----------------------------------------------------------------------------


@dataclass(frozen=True)
class LinkChange:
    """Another link of a device: what is absent stays as it is estimated."""

    device: Id
    direction: Literal["both", "up", "down"] = "both"
    bytes_per_second: Rate | None = None
    delay: Delay | None = None
    """Seconds, one way."""


@dataclass(frozen=True)
class LoadChange:
    """Other programs keep a share of the device's cores busy, beyond what is measured now."""

    device: Id
    busy: Fraction


@dataclass(frozen=True)
class BatteryChange:
    """The device runs from a battery of this charge."""

    device: Id
    charge: Fraction


@dataclass(frozen=True)
class SpeedRatio:
    """A board runs this kind of model so many times as fast as the board of a device of the mesh."""

    device: Id
    factor: Rate


@dataclass(frozen=True)
class AddedBoard:
    """A device that is not there, with the figures of its board: whoever answers reads no board files."""

    device: Id
    board: str
    memory_bytes: Count
    """For models."""
    macs_per_second: Rate
    """For the model's runtime and dtype."""
    idle_watts: Watts
    busy_watts: Watts
    radio_watts: Watts
    up_bytes_per_second: Rate
    down_bytes_per_second: Rate
    delay: Delay
    """Seconds, one way."""
    faster_than: tuple[SpeedRatio, ...] = ()
    """Devices whose measured times may be scaled to this board."""


@dataclass(frozen=True)
class WhatIfRequest:
    """``request/what-if``: the plan of ``model`` for ``origin`` if all of this were so."""

    requester: Id
    model: Id
    origin: Id
    off: tuple[Id, ...] = ()
    """Devices that are not there."""
    links: tuple[LinkChange, ...] = ()
    loads: tuple[LoadChange, ...] = ()
    batteries: tuple[BatteryChange, ...] = ()
    added: tuple[AddedBoard, ...] = ()

    def __post_init__(self) -> None:
        """Raise DecodeError for more changes than one answer is made for."""
        if self.change_count > limits.CHANGES:
            raise DecodeError(f"{self.change_count} changes, more than {limits.CHANGES}")

    @property
    def change_count(self) -> int:
        """How many things would be different."""
        return sum(map(len, (self.off, self.links, self.loads, self.batteries, self.added)))


# --- plans in answers ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedRoute:
    """A route with what a job on it is predicted to take."""

    route: tuple[Hop, ...]
    seconds: Amount
    joules: Amount = 0.0
    money: Amount = 0.0
    hops: tuple[HopPrediction, ...] = ()
    """One per partition, where the answer goes into detail."""
    return_seconds: Amount = 0.0
    """Of the seconds, those for the outputs to reach the origin; told with ``hops``."""

    def __post_init__(self) -> None:
        """Raise DecodeError for a route that no job could follow."""
        check_route(self.route)


@dataclass(frozen=True)
class WhatIfResponse:
    """``response/what-if``; nothing in the mesh has changed."""

    requester: Id
    model: Id
    origin: Id
    error: str | None = None
    """Why there is no answer, or no plan."""
    now: PlannedRoute | None = None
    """The plan in force, on the estimates of this moment; absent where there is none."""
    then: PlannedRoute | None = None
    """The best plan if it were so; absent where there is none."""
    kept: PlannedRoute | None = None
    """The plan in force if it were so and were kept; absent where it could not be carried out."""
    text: str = ""
    """The difference in words, and why."""
    notes: tuple[str, ...] = ()
    """How the figures of what is not there were made."""


@dataclass(frozen=True)
class FrontRequest:
    """``request/front``: every plan for which no other is both faster and thriftier."""

    requester: Id
    model: Id
    origin: Id


@dataclass(frozen=True)
class FrontResponse:
    """``response/front``, on the estimates of this moment."""

    requester: Id
    model: Id
    origin: Id
    error: str | None = None
    """Why there is no answer."""
    objective: str = ""
    bound: Amount | None = None
    """Seconds that a job may take, where the objective has a bound."""
    points: tuple[PlannedRoute, ...] = ()
    """By latency, ascending; joules descend."""
    total: Count = 0
    """Points that there are: of a long front every n-th is told, the ends always."""
    in_force: PlannedRoute | None = None
    singles: tuple[PlannedRoute, ...] = ()
    """All units on one device, for each that can."""
    weighted: bool = False
    """Whether a joule of some device counts more or less than one of the others."""


@dataclass(frozen=True)
class ExplainRequest:
    """``request/explain``: which constraint keeps the plan from being better."""

    requester: Id
    model: Id
    origin: Id


@dataclass(frozen=True)
class ExplainResponse:
    """``response/explain``: one sentence."""

    requester: Id
    model: Id
    origin: Id
    error: str | None = None
    """Why there is no answer."""
    text: str = ""
