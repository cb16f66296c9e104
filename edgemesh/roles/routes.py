"""Which route a job takes: the assignment in force, or what is left of it when devices are gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment
from edgemesh.roles.mesh_view import MeshView

Lane = tuple[str, str]
"""A device and the content that jobs run there. Of two models over one device each has its own: the slower
one may wait for another device of its route."""


@dataclass(frozen=True)
class ChosenRoute:
    """A route with the model content and the latency it was planned for."""

    route: tuple[Hop, ...]
    digest: str
    predicted: float
    epoch: tuple[int, int] = (0, 0)
    """Of the assignment it came from; zeros where it came from none."""
    alone: bool = False
    """Whether it is a device's own, for want of the broker, and no plan's."""

    @cached_property
    def devices(self) -> frozenset[str]:
        """Devices it passes."""
        return frozenset(hop.device for hop in self.route)

    @cached_property
    def lanes(self) -> frozenset[Lane]:
        """What jobs on it wait for others in."""
        return frozenset((device, self.digest) for device in self.devices)


class RouteChooser:
    """Prepare, then switch: a new assignment is obeyed when its devices are ready or the old one is out."""

    def __init__(self, view: MeshView, origin: str, here: str | None = None) -> None:
        """``here`` is the device that asks, if it is one: its heartbeats may wait behind what it sends."""
        self._view = view
        self._origin = origin
        self._here = here
        self._obeyed: dict[str, Assignment] = {}
        self._listed: dict[str, tuple[Assignment, list[ChosenRoute]]] = {}

    @property
    def obeyed(self) -> Mapping[str, Assignment]:
        """Model to the assignment that its jobs follow."""
        return self._obeyed

    def in_force(self, model: str, now: float) -> Assignment | None:
        """The assignment that jobs of ``model`` follow at ``now``."""
        newest = self._view.assignments.get((model, self._origin))
        if newest is None:
            self._obeyed.pop(model, None)
            self._listed.pop(model, None)
            return None
        current = self._obeyed.get(model)
        if (
            current is None
            or current.epoch >= newest.epoch
            or current.digest != newest.digest
            or not self.alive(current.devices, now)
            or newest.at_once
            or self._ready(newest)
        ):
            self._obeyed[model] = current = newest
        return current

    def routes(self, model: str, now: float) -> list[ChosenRoute]:
        """Routes whose devices are not known to be gone: the assignment's first, then by predicted time."""
        assignment = self.in_force(model, now)
        if assignment is None:
            return []
        known, listed = self._listed.get(model, (None, []))
        if known is not assignment:
            listed = _routes_of(assignment)
            self._listed[model] = assignment, listed
        return [choice for choice in listed if self.alive(choice.devices, now)]

    def alive(self, devices: Collection[str], now: float) -> bool:
        """Whether none of the devices is known to be gone; one never heard of may be there."""
        return all(
            device == self._here or device not in self._view.devices or self._view.online(device, now)
            for device in devices
        )

    def queued(self, devices: Collection[str], now: float) -> float:
        """Seconds of work that wait at the fullest of the devices, whoever sent it, as they said lately."""
        return max((self._view.queued(device, now) for device in devices), default=0.0)

    def _ready(self, assignment: Assignment) -> bool:
        return all(self._view.is_ready(device, partition) for device, partition in assignment.partitions)


def _routes_of(assignment: Assignment) -> list[ChosenRoute]:
    """The assignment's own route, then the others by predicted time; each once."""
    digest, epoch = assignment.digest, assignment.epoch
    others = [ChosenRoute(f.route, digest, f.seconds, epoch) for f in assignment.fallbacks]
    others += [ChosenRoute(r.route, digest, r.seconds, epoch) for r in assignment.runners_up]
    distinct = {assignment.route: ChosenRoute(assignment.route, digest, assignment.seconds, epoch)}
    for choice in sorted(others, key=lambda choice: choice.predicted):
        distinct.setdefault(choice.route, choice)
    return list(distinct.values())
