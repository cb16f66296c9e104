"""Devices of another major version of the wire contract: refused, and named to whoever reads the log.

They speak under another root, so nothing of theirs is read but ``device/<id>/state``, which keeps its place
and its words in every major version.
"""

from __future__ import annotations

from edgemesh.errors import DecodeError
from edgemesh.protocol import topics as contract
from edgemesh.protocol.presence import decode_state
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Log, Subscribe
from edgemesh.roles.events import ForeignMessageReceived

_DEVICES = 256


class OtherVersions:
    """Hears of devices of this mesh's name under the major versions next to this one."""

    def __init__(self, topics: Topics) -> None:
        self.online: dict[str, int] = {}
        """Device to the major version that it speaks."""
        self._neighbours = [Topics(topics.mesh, major) for major in (contract.MAJOR - 1, contract.MAJOR + 1)]

    def subscriptions(self) -> list[Action]:
        """What to subscribe to on a new connection."""
        self.online.clear()
        return [Subscribe(neighbour.filter("state"), 1) for neighbour in self._neighbours]

    def heard(self, event: ForeignMessageReceived) -> list[Action]:
        """A warning that names the device and both versions, once while it is there."""
        for neighbour in self._neighbours:
            try:
                topic = neighbour.parse(event.topic)
                state = decode_state(event.payload) if event.payload else "offline"
            except DecodeError:
                continue  # no such topic, or words of a version that this one does not know
            if topic.kind != "state":
                continue
            device = topic.names["device"]
            if state != "online":
                self.online.pop(device, None)
            elif self.online.get(device) != neighbour.major and len(self.online) < _DEVICES:
                self.online[device] = neighbour.major
                return [Log("warning", refusal(device, neighbour.major), device)]
        return []


def refusal(device: str, major: int) -> str:
    """Why ``device`` gets no work, and what to do."""
    return (
        f"{device} speaks version {major} of the wire contract and this mesh version {contract.MAJOR}: "
        "it gets no work until both run a release of the same version"
    )
