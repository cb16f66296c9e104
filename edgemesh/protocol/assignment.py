"""Assignment: which units run where, why, and what to do when a device is lost."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.errors import DecodeError
from edgemesh.protocol.activation import Cut, Hop, check_route, check_units
from edgemesh.protocol.fields import Amount, Count, Digest, Id
from edgemesh.protocol.presence import ReadyPartition, State


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
    joules: Amount = 0.0
    """Running, and the radio at both ends of the way there."""

    def __post_init__(self) -> None:
        """Raise DecodeError where it holds no unit."""
        check_units(self.start, self.stop)


@dataclass(frozen=True)
class Alternative:
    """A route that is not in force, with its prediction."""

    label: str
    route: tuple[Hop, ...]
    seconds: Amount
    joules: Amount | None = None

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
class WattsUsed:
    """Watts that a plan was made with, and where they come from."""

    device: Id
    busy: Amount
    """Above idle, while it runs, encodes or decodes."""
    radio: Amount
    source: str


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
    """Predicted per job, by all devices together; absent where no watts are known."""
    bound: Amount | None = None
    """Seconds that a job may take, where the objective has a bound."""
    money: Amount = 0.0
    """Predicted per job, in the currency of the policy's prices."""
    bottleneck: Amount = 0.0
    """Predicted seconds between two jobs when the busiest device or link is never idle."""
    uncertainty: Amount = 0.0
    """Likely relative error of ``seconds``, on a log scale: 0.1 is about 10 %."""
    proven: bool = True
    """Whether no plan is better on these estimates; false where the search ended before it could tell."""
    watts: tuple[WattsUsed, ...] = ()
    binding: str = ""
    """The constraint that keeps the plan from being better."""
    notes: tuple[str, ...] = ()
    """What a reader should know of the figures."""
    changes: Count = 0
    """How often this decision node has changed the route before."""
    since: Amount | None = None
    """Unix time at which the route came into force, on the decision node's clock: for people."""
    at_once: bool = False
    """The route in force before is not allowed or possible any more: requesters follow this one at once."""

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

    @property
    def partitions(self) -> list[tuple[str, ReadyPartition]]:
        """Device and what it is to have loaded, in the order of the route."""
        starts = (0, *(hop.stop for hop in self.route))
        return [
            (hop.device, ReadyPartition(self.digest, start, hop.stop))
            for start, hop in zip(starts, self.route, strict=False)
        ]


@dataclass(frozen=True)
class PlanFailure:
    """Retained on ``failure/<model>/<origin>`` while no plan can be made; the last assignment stays."""

    model: Id
    origin: Id
    kind: str
    """Which constraint: ``unavailable``, ``excluded``, ``pinned``, ``memory``, ``deadline`` and the like."""
    reason: str
    """What stands in the way, and what to lift."""
    kept: tuple[Hop, ...] = ()
    """The route that stays in force; empty where there is none."""
    since: Amount | None = None
    """Unix time, as of an assignment."""


@dataclass(frozen=True)
class Holder:
    """``decision/state`` and ``gateway/<slot>/state``: who holds the role, in which term."""

    state: State
    holder: Id
    boot: Id
    term: Count = 0
