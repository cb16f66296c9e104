"""Epochs: who may publish which assignment, and which one a requester may follow after which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from edgemesh.protocol.assignment import Assignment
from edgemesh.roles.requester import Requester
from edgemesh.simulation.connection import ModelledConnection
from edgemesh.simulation.faults.world import World


class Epochs:
    """Looks at assignments as they are published and as they are obeyed."""

    def __init__(self, world: World, broken: Callable[[str, str, str], None]) -> None:
        self._world = world
        self._broken = broken
        self._published: dict[str, tuple[tuple[int, int], int]] = {}
        """Topic to the epoch published last, and how often the broker had lost memory then."""
        self._leaders: dict[tuple[int, int], str] = {}
        """Losses of memory and term to the boot of who led in it."""
        self._obeyed: dict[tuple[str, str], Assignment] = {}
        """Requester and model to the assignment it obeyed last."""
        self._cleared: Counter[str] = Counter()
        """How often assignments of each model were cleared, as it was removed."""
        self._eras: dict[Assignment, tuple[int, int]] = {}
        """Times that the broker had lost memory, and that the model was removed, when it was published: after
        another one a new leader may begin below its epoch."""

    def cleared(self, model: str) -> None:
        """The assignments of a model were cleared."""
        self._cleared[model] += 1

    def published(self, connection: ModelledConnection, topic: str, told: Assignment) -> None:
        """A decision node published an assignment."""
        losses = self._losses
        last = self._published.get(topic)
        if last is not None and last[1] == losses and told.epoch <= last[0]:
            if self._world.reads_late(connection):
                return  # what was retained comes after what was published later: requesters ignore this plan
            self._broken("epochs grow", f"{told.epoch} was published after {last[0]}", told.model)
        self._published[topic] = told.epoch, losses
        self._eras.setdefault(told, self._era(told.model))
        holders = self._world.mesh.holders
        boots = [node.boot for node in holders if node.shell.connection is connection]
        leader = self._leaders.setdefault((losses, told.term), boots[0] if boots else "")
        if boots and leader != boots[0]:
            text = f"{leader} and {boots[0]} both published assignments in term {told.term}"
            self._broken("one leader per term", text, told.model)

    def obeys(self, name: str, requester: Requester) -> None:
        """A requester follows the assignments that it follows now."""
        for model, assignment in requester.routes.obeyed.items():
            last = self._obeyed.get((name, model))
            if assignment is last:
                continue
            lower = last is not None and assignment.epoch < last.epoch
            if last is not None and lower and self._eras.get(last) == self._era(model):
                text = f"{name} follows {assignment.epoch} after {last.epoch}"
                self._broken("no lower epoch is obeyed", text, name)
            self._obeyed[name, model] = assignment

    @property
    def _losses(self) -> int:
        return len(self._world.mesh.broker.wiped_at)

    def _era(self, model: str) -> tuple[int, int]:
        return self._losses, self._cleared[model]
