"""Devices of another major version of the wire contract: refused, and named to whoever reads the log.

They speak under another root, so nothing of theirs is read but ``device/<id>/state``, which keeps its place
and its words in every major version.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf

from edgemesh.errors import DecodeError
from edgemesh.protocol import topics as contract
from edgemesh.protocol.presence import decode_state
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Log, Subscribe
from edgemesh.roles.events import ForeignMessageReceived

_DEVICES = 256
_QUIET_SECONDS = 60.0
"""Between two lines about one device: it may come and go."""


class OtherVersions:
    """Hears of devices of this mesh's name under the major versions next to this one."""

    def __init__(self, topics: Topics) -> None:
        self.online: set[tuple[str, int]] = set()
        """Devices that are there, with the major version that each speaks."""
        self._named: OrderedDict[tuple[str, int], float] = OrderedDict()
        """When each device was named last, with the major version that it speaks; the oldest gives way."""
        self._neighbours = [Topics(topics.mesh, major) for major in (contract.MAJOR - 1, contract.MAJOR + 1)]

    def subscriptions(self) -> list[Action]:
        """What to subscribe to on a new connection."""
        self.online.clear()
        return [Subscribe(neighbour.filter("state"), 1) for neighbour in self._neighbours]

    def heard(self, event: ForeignMessageReceived, now: float) -> list[Action]:
        """A warning that names the device and both versions, at most once a minute."""
        for neighbour in self._neighbours:
            try:
                topic = neighbour.parse(event.topic)
                state = decode_state(event.payload) if event.payload else "offline"
            except DecodeError:
                continue  # no such topic, or words of a version that this one does not know
            if topic.kind != "state":
                continue
            device = topic.names["device"], neighbour.major
            if state != "online":
                self.online.discard(device)
            elif len(self.online) < _DEVICES:
                self.online.add(device)
            if state == "online" and now - self._named.get(device, -inf) >= _QUIET_SECONDS:
                self._named[device] = now
                self._named.move_to_end(device)
                if len(self._named) > _DEVICES:
                    self._named.popitem(last=False)
                return [Log("warning", refusal(*device), device[0])]
        return []


def refusal(device: str, major: int) -> str:
    """Why ``device`` gets no work, and what to do."""
    return (
        f"{device} speaks version {major} of the wire contract and this mesh version {contract.MAJOR}: "
        "it gets no work until both run a release of the same version"
    )
