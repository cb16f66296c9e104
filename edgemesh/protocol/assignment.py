"""Assignment: which units run where, why, and what to do when a device is lost."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.errors import DecodeError
from edgemesh.protocol.activation import Cut, Hop, check_route, check_units
from edgemesh.protocol.fields import Amount, Count, Digest, Id
from edgemesh.protocol.presence import State


@dataclass(frozen=True)
class HopPrediction:
    """Predicted seconds of one partition, and bytes over the cut before it."""

    device: Id
    start: Cut
    stop: Cut
    transfer: Amount
    queue: Amount
    run: Amount
    nbytes: Count

    def __post_init__(self) -> None:
        """Raise DecodeError where it holds no unit."""
        check_units(self.start, self.stop)


@dataclass(frozen=True)
class Alternative:
    """A route that is not in force, with its prediction."""

    label: str
    route: tuple[Hop, ...]
    seconds: Amount

    def __post_init__(self) -> None:
        """Raise DecodeError for a route that no job could follow."""
        check_route(self.route)


@dataclass(frozen=True)
class Fallback:
    """The best route that avoids ``avoids``."""

    avoids: Id
    route: tuple[Hop, ...]
    seconds: Amount

    def __post_init__(self) -> None:
        """Raise DecodeError for a route that no job could follow."""
        check_route(self.route)


@dataclass(frozen=True)
class IdleDevice:
    """Why a device does nothing for this model."""

    device: Id
    reason: str


@dataclass(frozen=True)
class Assignment:
    """Retained on ``assignment/<model>/<origin>``."""

    term: Count
    sequence: Count
    model: Id
    digest: Digest
    origin: Id
    objective: str
    route: tuple[Hop, ...]
    hops: tuple[HopPrediction, ...]
    return_seconds: Amount
    """Predicted seconds for the outputs to reach the origin."""
    seconds: Amount
    """Predicted latency in total."""
    reason: str
    fallbacks: tuple[Fallback, ...] = ()
    runners_up: tuple[Alternative, ...] = ()
    idle: tuple[IdleDevice, ...] = ()
    estimates_age: Amount = 0.0
    """Seconds since the oldest estimate used was renewed."""
    emulated: tuple[Id, ...] = ()
    """Devices whose board is emulated: figures made from them must say so."""
    joules: Amount | None = None

    def __post_init__(self) -> None:
        """Raise DecodeError for a route that no job could follow."""
        check_route(self.route)
        end = self.route[-1].stop
        others = [fallback.route for fallback in self.fallbacks]
        others += [alternative.route for alternative in self.runners_up]
        for route in others:
            if route[-1].stop != end:
                raise DecodeError(f"routes end at cuts {end} and {route[-1].stop}")

    @property
    def epoch(self) -> tuple[int, int]:
        """``(term, sequence)``; a reader ignores one that is not greater than the last it obeyed."""
        return self.term, self.sequence

    @property
    def devices(self) -> frozenset[str]:
        """Devices of the route."""
        return frozenset(hop.device for hop in self.route)


@dataclass(frozen=True)
class Holder:
    """``decision/state`` and ``gateway/<slot>/state``: who holds the role, in which term."""

    state: State
    holder: Id
    boot: Id
    term: Count = 0
