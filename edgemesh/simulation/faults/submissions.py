"""Submissions: one result for each that the broker took, for as long as it keeps its store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from edgemesh.protocol.result import ResultMessage
from edgemesh.simulation.broker import Message
from edgemesh.simulation.faults.schedules import Deed
from edgemesh.simulation.faults.world import FACE, World
from edgemesh.simulation.models import result_of

GATEWAY = "home-gateway-0"
_LOSS_SECONDS = 20.0
"""After the broker lost its store, until a gateway surely has subscribed again."""


class Submissions:
    """What apps published and what came of it."""

    def __init__(self, world: World, broken: Callable[[str, str, str], None]) -> None:
        self.results: Counter[str] = Counter()
        """Of each, without those that came again under the same job id."""
        self.told_again = 0
        """Results that came again, under the same job id: their gateway's connection ended between record and
        acknowledgement (``roles/answered.py``)."""
        self._told: set[tuple[str, str]] = set()
        """Submissions and the job ids of their results."""
        self._world = world
        self._broken = broken
        self._accepted: Counter[str] = Counter()
        """Times that the broker took it: an app that never saw its PUBACK publishes again."""
        self._accepted_at: dict[str, float] = {}
        self._ends: dict[str, float] = {}
        self._excused: set[str] = set()

    def submitted(self, deed: Deed) -> None:
        """An app wants a result within ``deed.seconds``."""
        self._ends[deed.name] = deed.seconds

    def accepted(self, message: Message) -> None:
        """The broker has it."""
        name = _name(message)
        clock = self._world.mesh.clock
        self._accepted[name] += 1
        self._accepted_at.setdefault(name, clock.now)
        assert message.expires_at is not None
        clock.call_at(message.expires_at - 1e-6, self._expires, name)

    def answered(self, message: Message, result: ResultMessage) -> None:
        """A gateway published a result."""
        name = _name(message)
        again = (name, result.job) in self._told
        self._told.add((name, result.job))
        self.told_again += again
        self.results[name] += not again
        if result.code is None and result.outputs["value"] != result_of(FACE, name)[:32].hex():
            self._broken("right output", f"{name} has a wrong result", name)
        if self.results[name] > self._accepted[name] and not self._memory_was_lost(name):
            text = f"{name} was taken {self._accepted[name]} times and has {self.results[name]} results"
            self._broken("one result per submission", text, name)

    def _memory_was_lost(self, name: str) -> bool:
        since = self._accepted_at.get(name, 0.0) - _LOSS_SECONDS
        return any(at >= since for at in self._world.mesh.broker.wiped_at)

    def _expires(self, name: str) -> None:
        """What waits for a gateway until its deadline is dropped by the broker."""
        waiting = self._world.mesh.broker.waiting(GATEWAY)
        if any(_name(message) == name for message in waiting if message.correlation):
            self._excused.add(name)

    def dropped(self, client_id: str, message: Message) -> None:
        """The broker drops what is too much for an absent or slow gateway, and tells nobody."""
        if client_id == GATEWAY and message.correlation:
            self._excused.add(_name(message))

    def check_end(self) -> None:
        """Everything has been answered that the broker neither lost nor dropped."""
        for name in self._accepted:
            if not self.results[name] and name not in self._excused and not self._memory_was_lost(name):
                self._broken("one result per submission", f"{name} never had a result", name)


def _name(message: Message) -> str:
    return (message.correlation or b"").decode()
