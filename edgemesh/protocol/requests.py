"""Questions of operator tools to the decision node, by verb."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.protocol.activation import CodecName, Cut, check_units
from edgemesh.protocol.fields import Id


@dataclass(frozen=True)
class PlanRequest:
    """``request/plan``: please plan ``model`` for ``origin`` now, and keep it planned."""

    requester: Id
    model: Id
    origin: Id


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


@dataclass(frozen=True)
class Pin:
    """Units ``[start, stop)`` run on ``device`` only."""

    start: Cut
    stop: Cut
    device: Id

    def __post_init__(self) -> None:
        """Raise DecodeError where it holds no unit."""
        check_units(self.start, self.stop)
